//! Password input. A password is not an argument, because every user of the machine can read those.

use std::io::{self, BufRead, IsTerminal};

use zeroize::Zeroizing;

use super::error::CommandError;
use crate::domain::{NewPassword, PasswordPolicy};

/// Prompts for a new password twice, without echo. If standard input is not a terminal, reads its first
/// line.
pub(super) fn password(policy: &PasswordPolicy) -> Result<NewPassword, CommandError> {
    if !io::stdin().is_terminal() {
        let mut line = Zeroizing::new(String::new());
        io::stdin().lock().read_line(&mut line)?;
        return Ok(policy.parse(line.trim_end_matches(['\r', '\n']))?);
    }
    let first = Zeroizing::new(rpassword::prompt_password("Password: ")?);
    let password = policy.parse(&first)?;
    let again = Zeroizing::new(rpassword::prompt_password("Again: ")?);
    if *first == *again { Ok(password) } else { Err(CommandError::PasswordsDiffer) }
}
