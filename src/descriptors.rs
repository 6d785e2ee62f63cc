//! The limit on open file descriptors, of which every connection takes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard limit. Systems commonly start programs with a soft limit of
/// 1,024, for programs that use `select`. Returns the limit, `None` if there is none.
#[must_use]
pub fn raise_limit() -> Option<u64> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // macOS refuses a limit above that of the kernel; the old one then stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current
}
