//! What a textual test cannot say: all values of a width, and what an evaluator keeps from one trace to the next.

use super::*;
use crate::parse::parse;

/// Runs a trace over al, bl and the flags, for all bytes.
fn all_bytes(text: &str, expected: impl Fn(u8, u8) -> u8) {
    let trace = parse(text).expect("valid");
    let mut evaluator = Evaluator::new();
    for a in 0..=255u8 {
        for b in 0..=255u8 {
            let mut regs = Regs::default();
            regs.set(Reg::RAX, u128::from(a));
            regs.set(Reg::RBX, u128::from(b));
            let left = evaluator.run(&trace, &mut regs, &mut SparseMemory::new());
            assert_eq!(left, Ok(Left::End(None)));
            assert_eq!(regs.gpr[0], u64::from(expected(a, b)), "{a} and {b} in\n{text}");
        }
    }
}

fn binary(op: &str) -> String {
    format!(
        "v0 = reg.i64 rax\nv1 = reg.i64 rbx\nv2 = trunc.i8 v0\nv3 = trunc.i8 v1\nv4 = {op}.i8 v2, v3\n\
         v5 = zext.i64 v4\nexit {{pc=1, rax=v5}}\n"
    )
}

#[test]
fn bytes_are_computed_as_rust_does() {
    all_bytes(&binary("add"), u8::wrapping_add);
    all_bytes(&binary("sub"), u8::wrapping_sub);
    all_bytes(&binary("mul"), u8::wrapping_mul);
    all_bytes(&binary("mulhi_u"), |a, b| ((u16::from(a) * u16::from(b)) >> 8) as u8);
    all_bytes(&binary("mulhi_s"), |a, b| {
        ((i16::from(a as i8) * i16::from(b as i8)) >> 8) as u8
    });
    all_bytes(&binary("xor"), |a, b| a ^ b);
    all_bytes(&binary("rol"), |a, n| a.rotate_left(u32::from(n & 31)));
    all_bytes(&binary("sar"), |a, n| ((a as i8) >> (n & 31).min(7)) as u8);
    all_bytes(&binary("shl"), |a, n| if n & 31 < 8 { a << (n & 31) } else { 0 });
}

/// The orderings that `cmp` and a condition are for.
#[test]
fn conditions_of_a_comparison_are_the_orderings() {
    let compare = |condition: &str| {
        format!(
            "v0 = reg.i64 rax\nv1 = reg.i64 rbx\nv2 = trunc.i8 v0\nv3 = trunc.i8 v1\nv4 = flags.sub.i8 v2, v3\n\
             v5 = cond.{condition} v4\nv6 = zext.i64 v5\nexit {{pc=1, rax=v6}}\n"
        )
    };
    all_bytes(&compare("b"), |a, b| u8::from(a < b));
    all_bytes(&compare("be"), |a, b| u8::from(a <= b));
    all_bytes(&compare("e"), |a, b| u8::from(a == b));
    all_bytes(&compare("l"), |a, b| u8::from((a as i8) < b as i8));
    all_bytes(&compare("ge"), |a, b| u8::from(a as i8 >= b as i8));
    all_bytes(&compare("g"), |a, b| u8::from(a as i8 > b as i8));
}

#[test]
fn nothing_is_left_over_from_the_trace_before() {
    let mut evaluator = Evaluator::new();
    let long = parse("v0 = reg.i64 rax\nv1 = add.i64 v0, 1\nv2 = add.i64 v1, 1\nv3 = rep.scas.i8 0, 0, 0, 1, 0\nexit {pc=1, rax=v2}\n").unwrap();
    let short = parse("v0 = rep.scas.i8 0, 0, 5, 1, 0\nv1 = get.i64 v0, rcx\nexit {pc=2, rbx=v1}\n").unwrap();
    let mut memory = SparseMemory::new();
    memory.map(0, vec![0, 0, 1, 0, 0]);
    for _ in 0..3 {
        let mut regs = Regs::default();
        assert_eq!(evaluator.run(&long, &mut regs, &mut memory), Ok(Left::End(None)));
        assert_eq!((regs.rip, regs.gpr[0]), (1, 2));
        assert_eq!(evaluator.run(&short, &mut regs, &mut memory), Ok(Left::End(None)));
        // The third element differs; two are left.
        assert_eq!((regs.rip, regs.gpr[3]), (2, 2));
    }
}

#[test]
fn a_fault_keeps_the_registers_and_the_program_counter() {
    let trace = parse("v0 = load.i64 [0x1000]\nexit {pc=1, rax=7}\n").unwrap();
    let mut regs = Regs {
        rip: 0x400,
        ..Regs::default()
    };
    let before = regs.clone();
    let left = Evaluator::new().run(&trace, &mut regs, &mut SparseMemory::new());
    let fault = Fault::Memory {
        addr: 0x1000,
        size: 8,
        write: false,
    };
    assert_eq!(left, Err(fault));
    assert_eq!(regs, before);
}

#[test]
fn accesses_at_the_edges_of_a_mapping() {
    let mut memory = SparseMemory::new();
    memory.map(0x1000, vec![1; 16]);
    let mut bytes = [0; 8];
    assert!(memory.load(0xfff, &mut bytes).is_err());
    assert!(memory.load(0x1008, &mut bytes).is_ok());
    assert!(memory.load(0x1009, &mut bytes).is_err());
    assert!(memory.store(u64::MAX, &[0; 2]).is_err());
    assert!(
        memory.ranges().all(|(_, bytes)| bytes == [1; 16]),
        "nothing was written"
    );
}
