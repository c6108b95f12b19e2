use super::*;
use crate::trace::Trace;

/// Reads, and checks that printing and reading again changes nothing.
fn round_trip(text: &str) -> Trace {
    let trace = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let printed = trace.to_string();
    let again = parse(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    assert_eq!(again, trace, "{printed}");
    assert_eq!(again, trace.normalized());
    assert_eq!(again.to_string(), printed);
    trace
}

#[test]
fn the_printer_writes_what_this_reads() {
    let text = "\
@0x401000
v0 = reg.i64 rbx
v1 = reg.i64 fsbase
v2 = load.i32 [v0 + 16]
v3 = load.i64 [v1: + 40]
v4 = load.v128 [v1: v0 + v3*8 - 0x12345] aligned
v5 = load.f64 [0x404000 + 8] unwritten
v6 = load.i8 [v3*2]
@0x401007
v7 = fadd.f64 v5, 1.5
v8 = fadd.f64 v7, 0x7ff8000000000001
v9 = fadd.f64 v8, -0.0
v10 = add.i64 v0, -1
v11 = zext.i64 300:i32
store.f64 v9, [v0 + 8]
v13 = flags.sub.i32 v2, 7
v14 = cond.e v13
guard.true v14 {pc=0x401020, rax=v10, xmm3=v4, flags=v13, store.i64 v10, [v0 - 8], store.i8 1, [0x500000]}
v16 = native {pc=0x401009, bytes=0fa2, in(rax=v10, rcx=v0), out(rax, rcx, rdx, rbx), mem(v0, 8, rw), mem(any, 0, r)}
v17 = get.i64 v16, rbx
v18 = lea [v17 + v17*4]
v19 = pshufd v4, 27
v20 = insert.i32 v19, v2, 3
v21 = call v18, sysv {pc=0x401010, rsp=v10}
@0x401010
branch v14, 0x401000 {pc=0x401012, xmm0=v20}
";
    assert_eq!(round_trip(text).to_string(), text);
}

#[test]
fn every_end() {
    for end in [
        "exit {pc=0x10}",
        "branch v1, 0x20 {pc=0x10}",
        "branch 1, 0x20 {pc=0x10, rax=v0}",
        "jump v0 {}",
        "jump 16 {rax=7}",
        "repeat {pc=0x10}",
        "link 7 {pc=0x10, rbx=1}",
    ] {
        let text = format!("v0 = reg.i64 rax\nv1 = cond.e 64\n{end}\n");
        round_trip(&text);
    }
    let text =
        "v0 = reg.i64 rax\nloophead\nv2 = phi.i64 v0\nv3 = phi.f32 1.0\nv4 = add.i64 v2, 1\nloop v2=v4, v3=0.5\n";
    assert_eq!(round_trip(text).to_string(), text);
    round_trip("loophead\nloop\n");
}

#[test]
fn names_may_be_any_number_and_lines_may_end_within_brackets() {
    let trace = round_trip("v70 = reg.i64 rax ; the seventieth\n\n  v5=add.i64 v70,\t2\nexit {\n pc=1,\n rax=v5\n}");
    assert_eq!(trace.ops.len(), 2);
    assert_eq!(trace.end.snapshot().unwrap().regs.len(), 1);
}

#[test]
fn errors_say_where_and_what() {
    let cases = [
        (
            "",
            "line 1, column 1: expected an operation or an end (exit, branch, jump, repeat, loop, link), found the end of the text",
        ),
        (
            "v0 = reg.i64 rax\n",
            "line 2, column 1: expected an operation or an end",
        ),
        (
            "v0 = reg.i64 eax\n",
            "line 1, column 14: expected a register, found `eax`",
        ),
        (
            "v0 = reg.i64 xmm0\n",
            "line 1, column 14: xmm0 holds v128, and the operation is of type i64",
        ),
        (
            "v0 = frob.i64 rax\n",
            "line 1, column 6: expected an operation or an end",
        ),
        (
            "v0 = add 1, 2\n",
            "line 1, column 6: `add` needs a type: one of add.i8 add.i16 add.i32 add.i64",
        ),
        ("v0 = add.f64 1, 2\n", "line 1, column 6: `add` needs a type"),
        (
            "v0 = cond 1\n",
            "line 1, column 6: `cond` needs a condition, as in `cond.e`",
        ),
        ("v0 = cond.x 1\n", "line 1, column 6: `x` is no condition"),
        (
            "v0 = fence.i64 5\n",
            "line 1, column 6: `fence` has no type after its name",
        ),
        (
            "add.i64 1, 2\n",
            "line 1, column 1: `add.i64` has a result: expected `vN = add.i64 ...`",
        ),
        ("v0 = fence 5\n", "line 1, column 1: `fence` has no result to name"),
        (
            "x = reg.i64 rax\n",
            "line 1, column 1: expected a name such as `v1` before `=`, found `x`",
        ),
        (
            "v0 = reg.i64 rax\nv0 = reg.i64 rbx\n",
            "line 2, column 1: `v0` is defined already",
        ),
        ("v0 = add.i64 v1, 2\n", "line 1, column 14: `v1` is not defined above"),
        ("v0 = add.i64 1 2\n", "line 1, column 16: expected `,`, found `2`"),
        (
            "v0 = add.i64 1,\n",
            "line 1, column 16: expected a value: a name such as `v1`, or a number, found the end of the line",
        ),
        ("v0 = add.i8 256, 2\n", "line 1, column 13: `256` does not fit i8"),
        ("v0 = add.i8 -129, 2\n", "line 1, column 13: `-129` does not fit i8"),
        ("v0 = add.i64 0xzz, 2\n", "line 1, column 14: `0xzz` is no number"),
        (
            "v0 = add.i64 1, 2:i32\n",
            "line 1, column 17: operand `b` is to be i64, found i32",
        ),
        (
            "v0 = zext.i64 7\n",
            "line 1, column 15: `7` needs a type here, as in `7:i32`",
        ),
        (
            "v0 = zext.i64 7:i64\n",
            "line 1, column 15: operand `a` is to be an integer narrower than i64, found i64",
        ),
        ("v0 = fadd.f64 1, 2.0\n", "line 1, column 15: `1` is to be a float"),
        (
            "v0 = fadd.f32 1e60, 2.0\n",
            "line 1, column 15: `1e60` is too large for f32",
        ),
        ("v0 = select.i1 2, 0, 1\n", "line 1, column 16: `2` does not fit i1"),
        (
            "v0 = cond.e 2\n",
            "line 1, column 13: `2` has bits that are no status flag",
        ),
        ("v0 = load.i64 [1*3]\n", "line 1, column 18: `3` is no scale"),
        (
            "v0 = load.i64 [+ 0x80000000]\n",
            "line 1, column 18: `0x80000000` does not fit a displacement",
        ),
        (
            "v0 = lea [1: + 8]\n",
            "line 1, column 10: the address of `lea` has no segment",
        ),
        (
            "v0 = pshufd 1, 256\n",
            "line 1, column 16: `256` is to be an 8-bit immediate",
        ),
        (
            "guard.true 1 {rax=1}\n",
            "line 1, column 15: expected `pc`, found `rax`",
        ),
        (
            "guard.true 1 {pc=1, rax=1, rax=2}\n",
            "line 1, column 28: rax is listed twice",
        ),
        (
            "guard.true 1 {pc=1, store.i1 1, [8]}\n",
            "line 1, column 21: `store.i1` is no store",
        ),
        (
            "guard.true 1 {pc=1, rax=1:i8}\n",
            "line 1, column 25: expected a value of type i64, found i8",
        ),
        (
            "guard.true 1 {pc=1\n",
            "line 2, column 1: expected `,`, found the end of the text",
        ),
        (
            "v0 = native {pc=1, bytes=0f0}\n",
            "line 1, column 26: expected pairs of hexadecimal digits",
        ),
        (
            "v0 = native {pc=1, bytes=90, mem(any, 0, x)}\n",
            "line 1, column 42: expected `r`, `w` or `rw`, found `x`",
        ),
        (
            "v0 = call 1, fast {pc=1}\n",
            "line 1, column 14: expected `full` or `sysv`, found `fast`",
        ),
        (
            "exit {pc=1} 2\n",
            "line 1, column 13: expected the end of the line, found `2`",
        ),
        (
            "exit {pc=1}\nexit {pc=1}\n",
            "line 2, column 1: expected nothing after the end of the trace, found `exit`",
        ),
        (
            "link 0x100000000 {pc=1}\n",
            "line 1, column 6: 4294967296 is more than 32 bits",
        ),
        ("loop 1:i64=2\n", "line 1, column 6: expected the name of a phi"),
        (
            "@rax\n",
            "line 1, column 2: expected the address of an instruction, found `rax`",
        ),
        ("v0 = reg.i64 rax !\n", "line 1, column 18: '!' has no meaning here"),
    ];
    let mut wrong = String::new();
    for (text, expected) in cases {
        let error = parse(text).expect_err(text).to_string();
        if !error.starts_with(expected) {
            wrong += &format!("{text:?}\n  is      {error}\n  and not {expected}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
