//! What stands for what.

use redmagic_ir::Value;

/// Values that guards have shown to be equal to an older value or to a constant, by operation: it is asked for every operand.
#[derive(Debug, Clone, Default)]
pub struct Equal(Vec<Value>);

impl Equal {
    /// What stands for a value in the end; itself if nothing does.
    #[inline]
    pub fn canonical(&self, mut value: Value) -> Value {
        while let Some(other) = self.get(value) {
            value = other;
        }
        value
    }

    #[inline]
    fn get(&self, value: Value) -> Option<Value> {
        let other = *self.0.get(value.as_op()?)?;
        (!other.is_none()).then_some(other)
    }

    /// From now on `other` stands for `value`; a constant stands for itself.
    pub fn insert(&mut self, value: Value, other: Value) {
        let Some(index) = value.as_op() else { return };
        if index >= self.0.len() {
            self.0.resize(index + 1, Value::NONE);
        }
        self.0[index] = other;
    }
}
