; Errors raised three calls deep, in a hot loop: errors.asm [n]
func third 4
    int r1, 5
    mod r2, r0, r1
    int r3, 2
    jne r2, r3, fine
    addi r2, r0, 100
    fail r2
fine:
    ret r2
end
func second 4
    box r1, r0
    call r2, third, r0, 1
    ret r2
end
func first 4
    box r1, r0
    call r2, second, r0, 1
    addi r2, r2, 1
    ret r2
end
func main 6
    arg r0, 0, 5000
    int r1, 0
    int r2, 0
loop:
    trycall r3, first, r1, 1
    add r2, r2, r3
    addi r1, r1, 1
    jlt r1, r0, loop
    print r2
    ret r2
end
