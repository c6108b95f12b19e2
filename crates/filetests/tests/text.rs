//! Runs the textual tests; see [`redmagic_filetests::text`].

use redmagic_filetests::text;

#[test]
fn ir() {
    text::check("ir", text::ir);
}

#[test]
fn lift() {
    text::check("lift", text::lift);
}

#[test]
fn eval() {
    text::check("eval", text::eval);
}

#[test]
fn opt() {
    text::check("opt", text::opt);
}

#[test]
fn graft() {
    text::check("graft", text::graft);
}

#[test]
fn the_documentation_has_every_operation() {
    text::check_reference();
}
