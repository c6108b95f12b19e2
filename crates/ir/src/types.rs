//! The types of values.

use std::fmt;

/// The type of a value, of a constant, or of an operation (its `.T` suffix).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Type {
    /// No value: stores, guards, markers.
    Void,
    /// A truth value, the result of a condition.
    I1,
    /// 8 bits.
    I8,
    /// 16 bits.
    I16,
    /// 32 bits.
    I32,
    /// 64 bits: general registers and addresses.
    I64,
    /// IEEE binary32.
    F32,
    /// IEEE binary64.
    F64,
    /// 128 bits whose lanes are the business of the operation.
    V128,
    /// The six status flags CF, PF, AF, ZF, SF and OF, in their places in `rflags`.
    Flags,
    /// Several registers at once, the result of a call or a native operation: taken apart with `get`.
    Tuple,
}

impl Type {
    /// Every type.
    pub const ALL: [Type; 11] = [
        Type::Void,
        Type::I1,
        Type::I8,
        Type::I16,
        Type::I32,
        Type::I64,
        Type::F32,
        Type::F64,
        Type::V128,
        Type::Flags,
        Type::Tuple,
    ];

    /// The name used in the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Type::Void => "void",
            Type::I1 => "i1",
            Type::I8 => "i8",
            Type::I16 => "i16",
            Type::I32 => "i32",
            Type::I64 => "i64",
            Type::F32 => "f32",
            Type::F64 => "f64",
            Type::V128 => "v128",
            Type::Flags => "flags",
            Type::Tuple => "tuple",
        }
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<Type> {
        Type::ALL.into_iter().find(|t| t.name() == name)
    }

    /// Width in bits; 32 for `flags`, 0 for `void` and `tuple`.
    pub const fn bits(self) -> u32 {
        match self {
            Type::Void | Type::Tuple => 0,
            Type::I1 => 1,
            Type::I8 => 8,
            Type::I16 => 16,
            Type::I32 | Type::F32 | Type::Flags => 32,
            Type::I64 | Type::F64 => 64,
            Type::V128 => 128,
        }
    }

    /// Bytes in memory of a type that can be loaded and stored; 0 for the others.
    pub const fn bytes(self) -> u32 {
        match self {
            Type::I8 => 1,
            Type::I16 => 2,
            Type::I32 | Type::F32 => 4,
            Type::I64 | Type::F64 => 8,
            Type::V128 => 16,
            Type::Void | Type::Tuple | Type::I1 | Type::Flags => 0,
        }
    }

    /// The mask of the bits a value of this type may have.
    pub const fn mask(self) -> u128 {
        match self.bits() {
            0 => 0,
            bits => u128::MAX >> (128 - bits),
        }
    }

    /// The integer type of `bytes` bytes (1, 2, 4, 8).
    pub const fn int(bytes: usize) -> Option<Type> {
        match bytes {
            1 => Some(Type::I8),
            2 => Some(Type::I16),
            4 => Some(Type::I32),
            8 => Some(Type::I64),
            _ => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of types, as the opcode table states what an operation accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeSet(u16);

impl TypeSet {
    /// The set of these types.
    pub const fn of(types: &[Type]) -> TypeSet {
        let mut bits = 0;
        let mut i = 0;
        while i < types.len() {
            bits |= 1 << types[i] as u16;
            i += 1;
        }
        TypeSet(bits)
    }

    /// Whether `ty` is in the set.
    pub const fn contains(self, ty: Type) -> bool {
        self.0 & (1 << ty as u16) != 0
    }

    /// The only member, if there is exactly one.
    pub fn single(self) -> Option<Type> {
        (self.0.count_ones() == 1).then(|| Type::ALL[self.0.trailing_zeros() as usize])
    }

    /// The members, in order.
    pub fn iter(self) -> impl Iterator<Item = Type> {
        Type::ALL.into_iter().filter(move |t| self.contains(*t))
    }
}

/// i8 to i64.
pub const INTS: TypeSet = TypeSet::of(&[Type::I8, Type::I16, Type::I32, Type::I64]);
/// i1 to i64.
pub const BITS: TypeSet = TypeSet::of(&[Type::I1, Type::I8, Type::I16, Type::I32, Type::I64]);
/// f32 and f64.
pub const FLOATS: TypeSet = TypeSet::of(&[Type::F32, Type::F64]);
/// What a load or a store can move.
pub const STORABLE: TypeSet = TypeSet::of(&[
    Type::I8,
    Type::I16,
    Type::I32,
    Type::I64,
    Type::F32,
    Type::F64,
    Type::V128,
]);
/// What fits a lane of a vector.
pub const LANES: TypeSet = TypeSet::of(&[Type::I8, Type::I16, Type::I32, Type::I64, Type::F32, Type::F64]);
/// What an architectural register can hold.
pub const REGISTER: TypeSet = TypeSet::of(&[Type::I64, Type::V128, Type::Flags]);
/// Everything that is a value of its own.
pub const ANY: TypeSet = TypeSet::of(&[
    Type::I1,
    Type::I8,
    Type::I16,
    Type::I32,
    Type::I64,
    Type::F32,
    Type::F64,
    Type::V128,
    Type::Flags,
]);
