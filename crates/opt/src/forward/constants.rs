//! Loads of memory that does not change.
//!
//! A load from a constant address folds. One through a pointer that is not constant, but pointed into such memory when the
//! trace was recorded, becomes a guard on the pointer: everything decoded from it then folds. This is what removes
//! fetch and decode from an interpreter's trace, also after an interpreted call has returned to a caller whose bytecode
//! the trace has not seen (DESIGN section 7, rule 1).
//!
//! Declared memory can end. Before it is relied on, and again after anything that may have run the program's own code, the
//! trace compares the generation with the one that it was validated for.

use redmagic_ir::{Op, Opcode};

use super::{Pass, Step};
use crate::cx::{Cx, Relied};

/// See the module.
pub struct Constants;

impl Pass for Constants {
    fn name(&self) -> &'static str {
        "constants"
    }

    fn concerns(&self, code: Opcode) -> bool {
        code == Opcode::Load
    }

    fn visit(&self, cx: &mut Cx<'_>, op: Op, _: Option<u128>) -> Step {
        if !op.args[2].is_none() {
            return Step::Next(op);
        }
        let (base, index) = (op.args[0], op.args[1]);
        let offset = if index.is_none() {
            0
        } else {
            match cx.int(index) {
                Some(index) => index << (op.imm & 3),
                None => return Step::Next(op),
            }
        };
        let offset = offset.wrapping_add_signed(i64::from(op.aux));
        let address = match (base.is_none(), cx.int(base)) {
            (true, _) => offset,
            (_, Some(base)) => base.wrapping_add(offset),
            _ => {
                // Not known: where was it?
                let Some(base_seen) = cx.seen(base) else {
                    return Step::Next(op);
                };
                (base_seen as u64).wrapping_add(offset)
            }
        };
        let Some(constant) = cx.input.constants.load(address, op.ty.bytes()) else {
            return Step::Next(op);
        };
        if constant.declared && !cx.freshen() {
            return Step::Next(op);
        }
        if !base.is_none() && !cx.guard_equal(base, address.wrapping_sub(offset)) {
            return Step::Next(op);
        }
        if constant.declared {
            cx.rely_on(Relied {
                address,
                size: op.ty.bytes(),
                bits: constant.bits,
            });
        }
        Step::Is(cx.b.constant(op.ty, constant.bits & op.ty.mask()))
    }
}
