//! Whether two recordings of the same thing are the same.
//!
//! Both recorders started from one state must agree. What may differ: when and how long, signals; the format of the vector state
//! (the kernel's and XSAVE's differ in what they leave out), of which the values are compared; and what a call that ran natively leaves in
//! registers that it need not keep: within such calls the emulation leaves anchors out, which the thread itself runs. A result
//! that matters shows in what is read and written next.

use redmagic_tracee::regs::XState;

use crate::recording::{NativeRegion, Recording, RegisterFile, Residual, ShimCall, ShimExecution, Step};

/// CF, PF, AF, ZF, SF, DF, OF.
const FLAGS: u64 = 0xcd5;

/// The first difference between two recordings, in words.
pub fn difference(a: &Recording, b: &Recording) -> Option<String> {
    if a.anchor != b.anchor {
        return Some(format!("anchors {:?} and {:?}", a.anchor, b.anchor));
    }
    if let Some(found) = registers(&a.start, &b.start) {
        return Some(format!("at the start: {found}"));
    }
    for (i, (x, y)) in a.steps.iter().zip(&b.steps).enumerate() {
        if let Some(found) = step(x, y) {
            return Some(format!("step {i} at {:#x}: {found}", x.ip()));
        }
    }
    if a.steps.len() != b.steps.len() {
        return Some(format!("{} and {} steps", a.steps.len(), b.steps.len()));
    }
    (a.end != b.end).then(|| format!("ends {:x?} and {:x?}", a.end, b.end))
}

fn step(a: &Step, b: &Step) -> Option<String> {
    let plain = |a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| Some(format!("{a:x?} and {b:x?}"));
    match (a, b) {
        (Step::Residual(x), Step::Residual(y)) => {
            let rest = |r: &Residual| (r.call.clone(), r.target, r.return_address, r.library);
            if rest(x) != rest(y) {
                plain(&rest(x), &rest(y))
            } else {
                kept(&x.after, &y.after)
            }
        }
        (Step::Native(x), Step::Native(y)) => {
            let rest = |r: &NativeRegion| (r.start_ip, r.resume_ip);
            if rest(x) != rest(y) {
                plain(&rest(x), &rest(y))
            } else {
                registers(&x.after, &y.after)
            }
        }
        (Step::Shim(x), Step::Shim(y)) => {
            let rest = |s: &ShimCall| (s.call.clone(), s.api, s.args, s.return_address, s.rsp);
            if rest(x) != rest(y) {
                return plain(&rest(x), &rest(y));
            }
            match (&x.action, &y.action) {
                (ShimExecution::Executed(x), ShimExecution::Executed(y)) => kept(x, y),
                (a, b) if a == b && x.result == y.result => None,
                (a, b) => plain(&(a, x.result), &(b, y.result)),
            }
        }
        (x, y) if x == y => None,
        (x, y) => plain(x, y),
    }
}

/// Of the registers that a call keeps.
fn kept(a: &RegisterFile, b: &RegisterFile) -> Option<String> {
    // rbx, rsp, rbp, r12 to r15.
    const KEPT: [usize; 7] = [3, 4, 5, 12, 13, 14, 15];
    let rest = |f: &RegisterFile| (KEPT.map(|number| f.gpr[number]), f.rip, f.fs_base, Vectors::of(f).mxcsr);
    (rest(a) != rest(b)).then(|| format!("kept registers, rip, fs, mxcsr: {:x?} and {:x?}", rest(a), rest(b)))
}

fn registers(a: &RegisterFile, b: &RegisterFile) -> Option<String> {
    for (number, (x, y)) in a.gpr.iter().zip(&b.gpr).enumerate() {
        if x != y {
            return Some(format!("general register {number} is {x:#x} and {y:#x}"));
        }
    }
    let rest = |f: &RegisterFile| (f.rip, f.rflags & FLAGS, f.fs_base);
    if rest(a) != rest(b) {
        return Some(format!("rip, flags, fs: {:x?} and {:x?}", rest(a), rest(b)));
    }
    let (x, y) = (Vectors::of(a), Vectors::of(b));
    (x != y).then(|| format!("vectors {x:x?} and {y:x?}"))
}

#[derive(Debug, PartialEq, Eq)]
struct Vectors {
    mxcsr: Option<u32>,
    xmm: [Option<u128>; 16],
}

impl Vectors {
    fn of(file: &RegisterFile) -> Vectors {
        // Components in their initial state may be left out of an image: the bit says so, and the bytes mean nothing.
        const BV: usize = 512;
        let state = XState(file.xsave.clone());
        let sse = file.xsave.get(BV).is_some_and(|bits| bits & 2 != 0);
        Vectors {
            mxcsr: state.mxcsr(),
            xmm: std::array::from_fn(|i| if sse { state.xmm(i) } else { Some(0) }),
        }
    }
}
