use super::*;

#[test]
fn names_are_unique_and_parse_back() {
    for &op in Opcode::ALL {
        let info = op.info();
        assert!(info.operands.len() <= 4, "{op:?} does not fit an Op");
        match info.suffix {
            None => assert_eq!(Opcode::parse(info.name), Some((op, Type::Void))),
            Some(set) => {
                for ty in set.iter() {
                    assert_eq!(Opcode::parse(&format!("{}.{ty}", info.name)), Some((op, ty)));
                }
            }
        }
    }
    assert_eq!(Opcode::parse("add"), None);
    assert_eq!(Opcode::parse("add.f64"), None);
    assert_eq!(Opcode::parse("pxor.i64"), None);
}
