; Boxes that are shared and dropped, some of them the last reference: refcount.asm [n]
func keep 3
    mov r1, r0
    box r2, r1
    drop r0
    unbox r1, r2
    ret r1
end
func main 10
    arg r0, 0, 20000
    int r1, 0
    int r2, 0
    int r8, 0
    int r9, 3
    box r3, r1
loop:
    box r4, r2
    mov r5, r4
    drop r4
    mod r7, r2, r9
    jne r7, r1, other
    mov r3, r5
other:
    unbox r6, r5
    add r8, r8, r6
    call r6, keep, r3, 1
    drop r5
    unbox r6, r6
    add r8, r8, r6
    addi r2, r2, 1
    jlt r2, r0, loop
    print r3
    print r8
    ret r8
end
