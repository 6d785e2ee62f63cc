//! Passwords, which never stand on a command line: there everybody on the machine can read them.

use std::io::{self, BufRead, IsTerminal};

use zeroize::Zeroizing;

use super::CommandError;
use crate::domain::Password;

/// Asks for a password twice, without echo; where standard input is no terminal, reads its first line.
pub(super) fn password() -> Result<Password, CommandError> {
    if !io::stdin().is_terminal() {
        let mut line = Zeroizing::new(String::new());
        io::stdin().lock().read_line(&mut line)?;
        return Ok(Password::parse(line.trim_end_matches(['\r', '\n']))?);
    }
    let first = Zeroizing::new(rpassword::prompt_password("Password: ")?);
    let password = Password::parse(&first)?;
    let again = Zeroizing::new(rpassword::prompt_password("Again: ")?);
    if *first == *again { Ok(password) } else { Err(CommandError::PasswordsDiffer) }
}
