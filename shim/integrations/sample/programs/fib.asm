; Recursion of the interpreter itself: fib.asm [n]
func fib 4
    int r1, 2
    jlt r0, r1, small
    addi r2, r0, -1
    call r2, fib, r2, 1
    addi r3, r0, -2
    call r3, fib, r3, 1
    add r0, r2, r3
small:
    ret r0
end
func main 2
    arg r0, 0, 21
    call r1, fib, r0, 1
    print r1
    ret r1
end
