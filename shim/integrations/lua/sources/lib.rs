//! Empty: cargo wants a target before it resolves dependencies.
