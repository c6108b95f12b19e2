; Traces where the program says: forced.asm [n]
func main 10
    arg r0, 0, 20000
    int r1, 0
    int r2, 0
    int r3, 0
    int r4, 4
    int r5, 5
    nojit loop
loop:
    mod r7, r1, r5
stretch:
    fbegin
    mul r6, r1, r4
    add r2, r2, r6
    traced
    fend stretch
    jne r7, r3, jump
    untraced
    addi r2, r2, 7
jump:
    addi r1, r1, 1
    jle r0, r1, done
    mod r7, r1, r4
    jne r7, r3, loop
    fjump stretch
done:
    print r2
    int r1, 0
hot:
    addi r1, r1, 1
    add r2, r2, r1
    jne r1, r0, hot
    print r2
    ret r2
end
