; One loop, types that change: promote.asm [n]
func work 6
    int r2, 0
    int r3, 1
loop:
    poly r1, r1, r3
    mix r4, r2, r0
    mix r5, r2, r0
    poly r4, r4, r5
    checksum r5, r4
    addi r2, r2, 1
    jlt r2, r0, loop
    print r5
    ret r1
end
func main 8
    arg r0, 0, 3000
    int r5, 0
    int r6, 6
again:
    int r1, 10
    mov r3, r0
    mov r4, r1
    call r1, work, r3, 2
    print r1
    const r4, 0.5
    call r1, work, r3, 2
    print r1
    addi r5, r5, 1
    jlt r5, r6, again
    ret r1
end
