//! Calls: inlined, residual, of the C API, and disabled regions.

use iced_x86::{FlowControl, Instruction, OpKind};

use super::{Fetched, Machine, Recorder, ToApi, inst};
use crate::abort::Abort;
use crate::guide::{CallAction, CallSite, Flow, ShimAction, ShimCallSite};
use crate::native::{Fail, Names};
use crate::operands;
use crate::plt;
use crate::recording::{
    AccessKind, Api, Bytes, End, LibraryCall, NativeRegion, Residual, ShimCall, ShimExecution, Step,
};

/// Names for what a call that runs unrecorded may do.
const CALL: Names = Names {
    late: Abort::CallTimeout,
    escaped: Abort::CallEscaped,
};

impl<M: Machine> Recorder<'_, M> {
    /// A call, or a jump that may be a tail call.
    pub(super) fn transfer(&mut self, fetched: &Fetched, jump: bool) -> Result<Option<End>, M::Error> {
        let instruction = &fetched.instruction;
        let Some(target) = self.target(instruction) else {
            return Err(Fail {
                reason: Abort::Unreadable,
                detail: "the branch target".into(),
            }
            .into());
        };
        let resolved = plt::resolve(&mut self.machine, target);
        if (self.ctx.api)(resolved.address).is_some() {
            self.to_api = Some(ToApi {
                step: self.steps.len(),
                tail: jump,
            });
            self.plain(fetched)?;
            return Ok(None);
        }
        let ip = instruction.ip();
        let in_own_image = self.is_own(resolved.address);
        if jump {
            let through_stub = self.asked.take() == Some(resolved.address);
            let leaves = self.is_own(ip) && !in_own_image;
            if through_stub || !(leaves || self.guide.is_call_target(resolved.address)) {
                self.plain(fetched)?;
                return self.after_jump(instruction);
            }
        }
        let (return_address, rsp) = if jump {
            self.return_address()?
        } else {
            (instruction.next_ip(), self.machine.regs().rsp)
        };
        if jump && let Some(end) = self.before_return(ip, return_address)? {
            return Ok(Some(end));
        }
        let site = CallSite {
            ip,
            target,
            resolved: resolved.address,
            lazy: resolved.lazy,
            return_address,
            rsp,
            in_own_image,
            tail: jump,
            depth: self.depth.max(0) as u32,
        };
        match self.guide.on_call(&site) {
            CallAction::Inline => {
                self.plain(fetched)?;
                if !jump {
                    self.asked = (target != resolved.address).then_some(resolved.address);
                    self.depth += 1;
                }
            }
            CallAction::Residual => {
                // Another call from here goes there, too, only if no register says where.
                let slot = match instruction.op0_kind() {
                    OpKind::NearBranch64 => resolved.slot,
                    OpKind::Memory if instruction.is_ip_rel_memory_operand() => self.slot(instruction),
                    _ => None,
                };
                let regs = self.machine.regs();
                let args = [regs.rdi, regs.rsi, regs.rdx];
                let function = slot.filter(|_| !in_own_image).and_then(self.ctx.library);
                let library = function.map(|function| LibraryCall { function, args });
                self.residual(fetched, &site, library)?;
            }
            CallAction::Abort(reason) => return Err(reason.into()),
        }
        Ok(None)
    }

    /// Asks about what an indirect jump has led to.
    fn after_jump(&mut self, instruction: &Instruction) -> Result<Option<End>, M::Error> {
        if instruction.flow_control() != FlowControl::IndirectBranch {
            return Ok(None);
        }
        let regs = self.machine.regs();
        let ip = regs.rip;
        match self.guide.on_jump(ip, &regs.array()) {
            Flow::Continue => Ok(None),
            Flow::End(reason) => Ok(Some(End::Stopped { ip, reason })),
            Flow::Abort(reason) => Err(reason.into()),
        }
    }

    /// Asks about the instruction at `ip`, which returns to `target` or jumps to what does.
    pub(super) fn before_return(&mut self, ip: u64, target: u64) -> Result<Option<End>, M::Error> {
        if self.depth > 0 {
            return Ok(None);
        }
        match self.guide.on_return(target) {
            Flow::Continue => Ok(None),
            Flow::End(reason) => Ok(Some(End::Stopped { ip, reason })),
            Flow::Abort(reason) => Err(reason.into()),
        }
    }

    /// Where a call or jump goes.
    fn target(&mut self, instruction: &Instruction) -> Option<u64> {
        let regs = self.machine.regs();
        match instruction.op0_kind() {
            OpKind::NearBranch64 => Some(instruction.near_branch_target()),
            OpKind::Register => Some(regs[instruction.op0_register().number()]),
            OpKind::Memory => {
                let slot = self.slot(instruction)?;
                self.machine.word(slot)
            }
            _ => None,
        }
    }

    /// The word that a call or jump goes through.
    fn slot(&self, instruction: &Instruction) -> Option<u64> {
        let regs = self.machine.regs();
        let through = instruction.op0_kind() == OpKind::Memory;
        through.then(|| instruction.virtual_address(0, 0, |r, _, _| operands::register(regs, r)))?
    }

    /// What the function that was just entered returns to, and rsp then.
    pub(super) fn return_address(&mut self) -> Result<(u64, u64), M::Error> {
        let rsp = self.machine.regs().rsp;
        match self.machine.word(rsp) {
            Some(address) => Ok((address, rsp.wrapping_add(8))),
            None => Err(Fail {
                reason: Abort::Unreadable,
                detail: "the return address".into(),
            }
            .into()),
        }
    }

    fn is_own(&self, address: u64) -> bool {
        self.ctx
            .images
            .iter()
            .any(|image| image.own && (image.start..image.end).contains(&address))
    }

    /// A call that runs unrecorded.
    fn residual(&mut self, fetched: &Fetched, site: &CallSite, library: Option<LibraryCall>) -> Result<(), M::Error> {
        let mut mem = self.machine.accesses(&mut self.factory, fetched)?;
        for access in mem.iter_mut().filter(|access| access.kind == AccessKind::Write) {
            // What a call writes is its return address; by now nobody has, and later it may be gone again.
            access.value = Bytes::from(&site.return_address.to_le_bytes()[..]);
        }
        let call = inst(fetched, site.target, mem);
        self.machine.run_until((site.return_address, site.rsp), CALL)?;
        let after = self.machine.register_file()?;
        self.steps.push(Step::from(Residual {
            call,
            target: site.resolved,
            return_address: site.return_address,
            after,
            library,
        }));
        if site.tail {
            self.depth -= 1;
        }
        Ok(())
    }

    /// The thread is at the first instruction of a function of the C API.
    pub(super) fn arrive_at_api(&mut self, api: Api) -> Result<Option<End>, M::Error> {
        let (return_address, rsp) = self.return_address()?;
        let to_api = self.to_api.take().unwrap_or(ToApi {
            step: self.steps.len().saturating_sub(1),
            tail: false,
        });
        let Some(Step::Inst(call)) = self.steps.get(to_api.step).cloned() else {
            return Err(Fail {
                reason: Abort::LostTrack,
                detail: "arrived at the C API without a call".into(),
            }
            .into());
        };
        let regs = self.machine.regs();
        let args = [regs.rdi, regs.rsi];
        let site = ShimCallSite {
            api,
            args,
            return_address,
            ip: call.ip,
            rsp,
            tail: to_api.tail,
            depth: self.depth.max(0) as u32,
        };
        let action = self.guide.on_shim_call(&site);
        if action == ShimAction::StepInto {
            self.entered_api = true;
            if !to_api.tail {
                self.depth += 1;
            }
            return Ok(None);
        }
        self.steps.truncate(to_api.step);
        let shim_call = |result, action| {
            Step::from(ShimCall {
                call: call.clone(),
                api,
                args,
                return_address,
                rsp,
                result,
                action,
            })
        };
        match action {
            ShimAction::StepInto => unreachable!("returned above"),
            ShimAction::Abort(reason) => return Err(reason.into()),
            ShimAction::End => {
                return Ok(Some(End::Anchor {
                    api,
                    id: args[0],
                    return_address,
                    ip: call.ip,
                    rsp,
                }));
            }
            ShimAction::Skip { result } => {
                self.machine.skip_to(return_address, rsp, result)?;
                self.steps.push(shim_call(result, ShimExecution::Skipped));
            }
            ShimAction::RunNative => {
                self.machine.run_until((return_address, rsp), CALL)?;
                let after = Box::new(self.machine.register_file()?);
                self.steps
                    .push(shim_call(self.machine.regs().rax, ShimExecution::Executed(after)));
            }
            ShimAction::NativeUntil { enter, leave } => {
                let resume_ip = self.machine.run_region(enter, leave)?;
                let after = self.machine.register_file()?;
                self.steps.push(Step::from(NativeRegion {
                    start_ip: call.ip,
                    resume_ip,
                    after,
                }));
            }
        }
        if to_api.tail {
            self.depth -= 1;
        }
        Ok(None)
    }
}
