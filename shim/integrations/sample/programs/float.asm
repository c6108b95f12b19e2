; Pi by Leibniz and a sum of thirds, in doubles: float.asm [n]
func main 10
    arg r0, 0, 200000
    int r1, 0
    const r2, 0.0
    const r3, 4.0
    const r4, 1.0
    const r5, 2.0
    const r6, -1.0
    const r8, 0.0
loop:
    div r7, r3, r4
    add r2, r2, r7
    mul r3, r3, r6
    add r4, r4, r5
    tod r7, r1
    const r9, 3.0
    div r7, r7, r9
    add r8, r8, r7
    addi r1, r1, 1
    jlt r1, r0, loop
    print r2
    print r8
    ret r1
end
