//! Tests of the evaluator.

use std::fmt::Write as _;

use redmagic_ir::eval::{Evaluator, Fault, Host, Left, Memory, Regs, SparseMemory};
use redmagic_ir::flags::{AF, CF, OF, PF, SF, ZF};
use redmagic_ir::{Abi, Native, Reg, parse, print};

use super::{lines, number, number64};

/// A trace and a state to what the trace makes of it.
///
/// ```text
/// given REGISTER=N ...            registers at the entry; also rflags and mxcsr (others are 0)
/// given memory ADDRESS: BYTE ...  mapped memory; an access elsewhere faults
/// given iterations N              how often an inner loop may go back
/// given elements N                how many elements a repeated string operation may process
/// ```
///
/// All other lines are the trace. The output says how the trace was left, and what is different then. A native
/// operation and a call are executed by a machine that shows what it is given and answers with numbers of its own:
/// output register `i` becomes `0xa000 + i`, for calls rax `0xca11` and rsp 8 more.
pub fn eval(input: &str) -> String {
    let (mut regs, mut memory, mut evaluator) = (Regs::default(), SparseMemory::new(), Evaluator::new());
    let mut text = String::new();
    for line in input.lines() {
        // Other lines are kept, empty if need be, so that an error of the parser has the right line number.
        match lines(line).next().and_then(|(_, line)| line.strip_prefix("given ")) {
            Some(given) => state(given, &mut regs, &mut memory, &mut evaluator),
            None => text += line,
        }
        text += "\n";
    }
    let trace = parse::parse(&text).unwrap_or_else(|e| panic!("{e}\n{input}"));
    let mut machine = Machine {
        memory: memory.clone(),
        log: String::new(),
        before: regs.clone(),
    };
    let before = regs.clone();
    let left = evaluator.run(&trace, &mut regs, &mut machine);
    let mut out = machine.log;
    match left {
        Err(fault) => writeln!(out, "fault: {fault}"),
        Ok(Left::Guard(op)) => writeln!(out, "left by `{}`", print::op(&trace, op)),
        Ok(Left::End(None)) => writeln!(out, "left by its end"),
        Ok(Left::End(Some(true))) => writeln!(out, "left by its end, branch taken"),
        Ok(Left::End(Some(false))) => writeln!(out, "left by its end, branch not taken"),
        Ok(Left::Repeat) => writeln!(out, "repeats"),
        Ok(Left::Link(trace)) => writeln!(out, "enters trace {trace}"),
    }
    .expect("a string");
    out += &differences(&before, &regs);
    for ((addr, old), (_, new)) in memory.ranges().zip(machine.memory.ranges()) {
        if old != new {
            let bytes: Vec<String> = new.iter().map(|b| format!("{b:02x}")).collect();
            writeln!(out, "memory {addr:#x}: {}", bytes.join(" ")).expect("a string");
        }
    }
    out
}

fn state(given: &str, regs: &mut Regs, memory: &mut SparseMemory, evaluator: &mut Evaluator) {
    if let Some(mapping) = given.strip_prefix("memory ") {
        let (addr, bytes) = mapping.split_once(':').expect("ADDRESS: BYTE ...");
        let bytes = bytes
            .split_whitespace()
            .map(|b| u8::from_str_radix(b, 16).expect("a byte"));
        return memory.map(number64(addr), bytes.collect());
    }
    if let Some(n) = given.strip_prefix("iterations ") {
        evaluator.iterations = number64(n);
        return;
    }
    if let Some(n) = given.strip_prefix("elements ") {
        evaluator.elements = number64(n);
        return;
    }
    for pair in given.split_whitespace() {
        let (name, value) = pair.split_once('=').expect("REGISTER=N");
        match (name, Reg::from_name(name)) {
            ("mxcsr", _) => regs.mxcsr = number64(value) as u32,
            ("rflags", _) => regs.rflags = number64(value),
            (_, Some(reg)) => regs.set(reg, number(value)),
            _ => panic!("{name:?} is no register"),
        }
    }
}

/// The registers that are not the same, a line each.
fn differences(before: &Regs, after: &Regs) -> String {
    let mut out = String::new();
    if before.rip != after.rip {
        writeln!(out, "rip = {:#x}", after.rip).expect("a string");
    }
    for reg in Reg::all() {
        let (old, new) = (before.get(reg), after.get(reg));
        if old == new {
            continue;
        }
        if reg == Reg::FLAGS {
            let undefined = (new >> 32) as u32;
            writeln!(
                out,
                "flags = {}{}",
                flag_names(new as u32),
                match undefined {
                    0 => String::new(),
                    _ => format!(", undefined {}", flag_names(undefined)),
                }
            )
        } else {
            writeln!(out, "{reg} = {new:#x}")
        }
        .expect("a string");
    }
    if before.mxcsr != after.mxcsr {
        writeln!(out, "mxcsr = {:#x}", after.mxcsr).expect("a string");
    }
    out
}

fn flag_names(bits: u32) -> String {
    let all = [(CF, "CF"), (PF, "PF"), (AF, "AF"), (ZF, "ZF"), (SF, "SF"), (OF, "OF")];
    let set: Vec<&str> = all
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if set.is_empty() { "none".into() } else { set.join(" ") }
}

struct Machine {
    memory: SparseMemory,
    log: String,
    before: Regs,
}

impl Machine {
    fn show(&mut self, what: &str, regs: &Regs) {
        self.log += what;
        self.log += "\n";
        for line in differences(&self.before, regs).lines() {
            self.log += &format!("  {line}\n");
        }
    }
}

impl Memory for Machine {
    fn load(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        self.memory.load(addr, out)
    }

    fn store(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.memory.store(addr, bytes)
    }
}

impl Host for Machine {
    fn native(&mut self, native: &Native, regs: &mut Regs) -> Result<(), Fault> {
        self.show(&format!("native {:02x?} with", native.bytes), regs);
        for reg in &native.outputs {
            regs.set(*reg, 0xa000 + reg.index() as u128);
        }
        Ok(())
    }

    fn call(&mut self, abi: Abi, return_to: u64, regs: &mut Regs) -> Result<(), Fault> {
        self.show(
            &format!("call ({}), returning to {return_to:#x}, with", abi.name()),
            regs,
        );
        regs.set(Reg::RAX, 0xca11);
        regs.set(Reg::RSP, regs.get(Reg::RSP) + 8);
        Ok(())
    }
}
