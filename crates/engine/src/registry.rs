//! What the program declared, as read from its registry.

use std::collections::{BTreeMap, HashSet};

use redmagic_proto::registry::{KIND_CONSTANT_MEMORY, KIND_DISABLED_BRANCH, KIND_DO_NOT_TRACE, KIND_ELIDABLE};
use redmagic_record::recording::{AccessKind, Recording, Step};

/// A consistent copy of a target's registry.
#[derive(Debug, Clone, Default)]
pub struct Declarations {
    /// Functions whose calls are kept as calls: `do_not_trace_function`, and
    /// `elidable_function`, whose calls the copy tier cannot fold.
    pub kept: HashSet<u64>,
    /// Functions that are pure.
    pub elidable: HashSet<u64>,
    /// Ids at which no trace starts.
    pub disabled: HashSet<u64>,
    /// Constant memory by its first byte.
    constant: BTreeMap<u64, ConstantRange>,
    /// Something was declared that the target could not note: nothing is constant.
    pub incomplete: bool,
}

/// A block of constant memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConstantRange {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// Tells two declarations of one block apart.
    pub serial: u64,
}

impl Declarations {
    /// Nothing yet; `incomplete` if the target could not note everything.
    pub fn new(incomplete: bool) -> Declarations {
        Declarations {
            incomplete,
            ..Declarations::default()
        }
    }

    /// Takes in one record. Unknown kinds are ignored: the memory is the target's.
    pub fn add(&mut self, kind: u64, key: u64, length: u64, serial: u64) {
        match kind {
            KIND_DO_NOT_TRACE => {
                self.kept.insert(key);
            }
            KIND_ELIDABLE => {
                self.kept.insert(key);
                self.elidable.insert(key);
            }
            KIND_DISABLED_BRANCH => {
                self.disabled.insert(key);
            }
            KIND_CONSTANT_MEMORY => {
                self.constant.insert(
                    key,
                    ConstantRange {
                        start: key,
                        length,
                        serial,
                    },
                );
            }
            _ => {}
        }
    }

    /// The block that contains an address.
    pub fn constant_at(&self, address: u64) -> Option<ConstantRange> {
        if self.incomplete {
            return None;
        }
        let (_, range) = self.constant.range(..=address).next_back()?;
        (address - range.start < range.length).then_some(*range)
    }

    /// The bytes of constant memory that a recording writes itself. Whoever declared them meant the rest of the block: a
    /// counter beside an instruction, say. For this recording they are not constant.
    pub fn written(&self, recording: &Recording) -> HashSet<u64> {
        let insts = recording.steps.iter().filter_map(|step| match step {
            Step::Inst(inst) => Some(inst),
            _ => None,
        });
        insts
            .flat_map(|inst| &inst.mem)
            .filter(|access| access.kind != AccessKind::Read)
            .flat_map(|access| access.addr..access.addr.saturating_add(u64::from(access.size)))
            .filter(|address| self.constant_at(*address).is_some())
            .collect()
    }

    /// How many blocks there are.
    pub fn constant_count(&self) -> usize {
        self.constant.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_its_block_only() {
        let mut declared = Declarations::default();
        declared.add(KIND_CONSTANT_MEMORY, 0x1000, 0x10, 1);
        declared.add(KIND_CONSTANT_MEMORY, 0x2000, 0x10, 2);
        assert_eq!(declared.constant_at(0x100f).map(|r| r.serial), Some(1));
        assert_eq!(declared.constant_at(0x1010), None);
        assert_eq!(declared.constant_at(0xfff), None);
        assert_eq!(declared.constant_at(0x2000).map(|r| r.serial), Some(2));
        declared.incomplete = true;
        assert_eq!(declared.constant_at(0x2000), None);
    }

    #[test]
    fn elidable_functions_are_kept_as_calls() {
        let mut declared = Declarations::default();
        declared.add(KIND_ELIDABLE, 7, 0, 1);
        declared.add(99, 8, 0, 1);
        assert!(declared.kept.contains(&7) && !declared.kept.contains(&8));
    }
}
