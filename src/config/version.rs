//! The version of the program.

/// Version of the program, with its commit: `0.1.0 (4f2d6a2, 2026-11-26)`.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("PORTCULLIS_BUILD"), ")");

/// Abbreviated hash of the commit of this build; `unknown` in a debug build.
pub const COMMIT: &str = env!("PORTCULLIS_COMMIT");
