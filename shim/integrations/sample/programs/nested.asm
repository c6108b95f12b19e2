; Three loops, one in another: nested.asm [n]
func main 8
    arg r7, 0, 60
    int r0, 0
    int r1, 0
outer:
    int r2, 0
middle:
    int r3, 0
inner:
    mul r4, r2, r3
    sub r4, r4, r1
    add r0, r0, r4
    addi r3, r3, 1
    jlt r3, r7, inner
    addi r2, r2, 1
    jlt r2, r7, middle
    addi r1, r1, 1
    jlt r1, r7, outer
    print r0
    ret r0
end
