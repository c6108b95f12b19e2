; Deep recursion, two ways down and one tail: ackermann.asm [m] [n]
func ack 5
    int r2, 0
    jne r0, r2, more
    addi r1, r1, 1
    ret r1
more:
    addi r3, r0, -1
    jne r1, r2, both
    int r4, 1
    call r0, ack, r3, 2
    ret r0
both:
    mov r2, r0
    mov r4, r1
    addi r4, r4, -1
    mov r1, r3
    mov r3, r4
    call r4, ack, r2, 2
    mov r3, r1
    call r0, ack, r3, 2
    ret r0
end
func main 3
    arg r0, 0, 2
    arg r1, 1, 60
    call r2, ack, r0, 2
    print r2
    ret r2
end
