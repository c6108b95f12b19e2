; The sum of the first n numbers: sum.asm [n]
func main 4
    arg r1, 0, 1000000
    int r0, 0
    int r2, 0
loop:
    addi r2, r2, 1
    add r0, r0, r2
    jlt r2, r1, loop
    print r0
    ret r0
end
