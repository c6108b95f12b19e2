//! Calls: inlined, residual, of the C API, and disabled regions.

use std::time::Instant;

use iced_x86::{Instruction, OpKind, Register};

use super::{Recorder, ToApi};
use crate::abort::Abort;
use crate::guide::{CallAction, CallSite, ShimAction, ShimCallSite};
use crate::native::{self, Fail, Names, RESUME_FLAG};
use crate::operands;
use crate::plt;
use crate::recording::{AccessKind, Api, Bytes, End, MemAccess, NativeRegion, Residual, ShimCall, ShimExecution, Step};

impl Recorder<'_> {
    /// A call, or a jump that may be a tail call.
    pub(super) fn transfer(&mut self, instruction: &Instruction, jump: bool) -> Result<(), Fail> {
        let Some(target) = self.target(instruction) else {
            return Err(Fail {
                reason: Abort::Unreadable,
                detail: "the branch target".into(),
            });
        };
        let resolved = plt::resolve(&mut self.text, self.memory, target);
        if (self.ctx.api)(resolved.address).is_some() {
            self.to_api = Some(ToApi {
                step: self.steps.len(),
                tail: jump,
            });
            return self.plain(instruction);
        }
        let ip = instruction.ip();
        let in_own_image = self.is_own(resolved.address);
        if jump {
            let through_stub = self.asked.take() == Some(resolved.address);
            let leaves = self.is_own(ip) && !in_own_image;
            if through_stub || !(leaves || self.guide.is_call_target(resolved.address)) {
                return self.plain(instruction);
            }
        }
        let (return_address, rsp) = if jump {
            (self.memory.read_u64(self.regs.rsp)?, self.regs.rsp.wrapping_add(8))
        } else {
            (instruction.next_ip(), self.regs.rsp)
        };
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
                self.plain(instruction)?;
                if !jump {
                    self.asked = (target != resolved.address).then_some(resolved.address);
                    self.depth += 1;
                }
                Ok(())
            }
            CallAction::Residual => self.residual(instruction, &site),
            CallAction::Abort(reason) => Err(reason.into()),
        }
    }

    /// Where a call or jump goes.
    fn target(&self, instruction: &Instruction) -> Option<u64> {
        match instruction.op0_kind() {
            OpKind::NearBranch64 => Some(instruction.near_branch_target()),
            OpKind::Register => Some(self.regs[instruction.op0_register().number()]),
            OpKind::Memory => {
                let regs = &self.regs;
                let address = instruction.virtual_address(0, 0, |register, _, _| match register {
                    Register::None | Register::RIP | Register::DS | Register::SS | Register::ES | Register::CS => {
                        Some(0)
                    }
                    Register::FS => Some(regs.fs_base),
                    Register::GS => Some(regs.gs_base),
                    r if r.is_gpr64() => Some(regs[r.number()]),
                    r if r.is_gpr32() => Some(regs[r.number()] & 0xffff_ffff),
                    _ => None,
                })?;
                self.memory.read_u64(address).ok()
            }
            _ => None,
        }
    }

    fn is_own(&self, address: u64) -> bool {
        self.ctx
            .images
            .iter()
            .any(|image| image.own && (image.start..image.end).contains(&address))
    }

    /// A call that runs natively.
    fn residual(&mut self, instruction: &Instruction, site: &CallSite) -> Result<(), Fail> {
        let operands = operands::operands(&mut self.factory, instruction, &self.regs)?;
        let values = self.read_before(&operands);
        let mem = operands
            .iter()
            .zip(values)
            .map(|(operand, value)| MemAccess {
                addr: operand.addr,
                size: operand.size,
                kind: operand.kind,
                // What a call writes is its return address; by now nobody has, and later it may be gone again.
                value: if operand.kind == AccessKind::Write {
                    Bytes::from(&site.return_address.to_le_bytes()[..])
                } else {
                    value
                },
            })
            .collect();
        let call = self.inst(instruction, site.target, mem)?;
        let names = Names {
            late: Abort::CallTimeout,
            escaped: Abort::CallEscaped,
        };
        self.native((site.return_address, site.rsp), self.limits.residual_time, names)?;
        let after = self.register_file()?;
        self.steps.push(Step::Residual(Residual {
            call,
            target: site.resolved,
            return_address: site.return_address,
            after,
        }));
        if site.tail {
            self.depth -= 1;
        }
        Ok(())
    }

    /// The thread is at the first instruction of a function of the C API.
    pub(super) fn arrive_at_api(&mut self, api: Api) -> Result<Option<End>, Fail> {
        let rsp = self.regs.rsp.wrapping_add(8);
        let return_address = self.memory.read_u64(self.regs.rsp)?;
        let to_api = self.to_api.take().unwrap_or(ToApi {
            step: self.steps.len().saturating_sub(1),
            tail: false,
        });
        let Some(Step::Inst(call)) = self.steps.get(to_api.step).cloned() else {
            return Err(Fail {
                reason: Abort::LostTrack,
                detail: "arrived at the C API without a call".into(),
            });
        };
        let args = [self.regs.rdi, self.regs.rsi];
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
            Step::Shim(ShimCall {
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
                self.regs.rip = return_address;
                self.regs.rsp = rsp;
                self.regs.rax = result;
                self.regs.orig_rax = u64::MAX;
                self.regs.rflags &= !RESUME_FLAG;
                self.thread.set_regs(&self.regs)?;
                self.steps.push(shim_call(result, ShimExecution::Skipped));
            }
            ShimAction::RunNative => {
                let names = Names {
                    late: Abort::CallTimeout,
                    escaped: Abort::CallEscaped,
                };
                self.native((return_address, rsp), self.limits.residual_time, names)?;
                let after = Box::new(self.register_file()?);
                self.steps
                    .push(shim_call(self.regs.rax, ShimExecution::Executed(after)));
            }
            ShimAction::NativeUntil { enter, leave } => {
                let resume_ip = self.native_region(enter, leave)?;
                let after = self.register_file()?;
                self.steps.push(Step::Native(NativeRegion {
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

    /// From the entry of `enter` until `leave` has been called as often, and has returned. Gives the return address.
    fn native_region(&mut self, enter: u64, leave: u64) -> Result<u64, Fail> {
        let frame = self.regs.rsp;
        let deadline = Instant::now() + self.limits.native_time;
        // Past the first instruction of `enter`, so that the breakpoint there is for nested calls only.
        self.step()?;
        self.stats.native_runs += 1;
        self.unbind();
        let breakpoints = [
            native::arm(&self.thread, 0, leave)?,
            native::arm(&self.thread, 1, enter)?,
        ];
        let mut open = 1u32;
        let result = loop {
            let hit = native::run_to_hit(
                &mut self.thread,
                None,
                deadline,
                Abort::NativeTimeout,
                &mut self.stats.signals,
            );
            let regs = match hit {
                Ok(regs) => regs,
                Err(fail) => break Err(fail),
            };
            if regs.rsp > frame {
                break Err(Abort::NativeEscaped.into());
            }
            match regs.rip {
                rip if rip == enter => open += 1,
                rip if rip == leave => open -= 1,
                _ => continue,
            }
            if open == 0 {
                break if regs.rsp == frame {
                    Ok(regs)
                } else {
                    Err(Abort::NativeEscaped.into())
                };
            }
        };
        for breakpoint in breakpoints {
            breakpoint.clear(&self.thread)?;
        }
        self.regs = result?;
        let return_address = self.memory.read_u64(frame)?;
        let names = Names {
            late: Abort::NativeTimeout,
            escaped: Abort::NativeEscaped,
        };
        self.native(
            (return_address, frame.wrapping_add(8)),
            self.limits.residual_time,
            names,
        )?;
        Ok(return_address)
    }
}
