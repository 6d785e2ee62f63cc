//! Input of passwords and confirmations. A password is not an argument, because every user of the
//! machine can read those.

use std::io::{self, BufRead, IsTerminal, Write};

use zeroize::Zeroizing;

use super::error::CommandError;
use super::output::say;
use crate::domain::{Password, PasswordError, PasswordPolicy, Username};
use crate::telemetry::ErrorChain;

/// Number of times that a new password is prompted for.
const ATTEMPTS: u32 = 3;

/// Prompts for the new password of an account twice, without echo, and again if it is refused or
/// mistyped. If standard input is not a terminal, reads its first line.
pub(super) fn new_password(
    policy: &PasswordPolicy,
    username: &Username,
) -> Result<Password, CommandError> {
    let parse = |text: &str| policy.parse(text)?.for_user(username);
    if !io::stdin().is_terminal() {
        let mut line = Zeroizing::new(String::new());
        io::stdin().lock().read_line(&mut line)?;
        return Ok(parse(line.trim_end_matches(['\r', '\n']))?);
    }
    let mut attempt = 1;
    loop {
        match prompt_twice(parse) {
            Err(error @ (CommandError::Password(_) | CommandError::PasswordsDiffer))
                if attempt < ATTEMPTS =>
            {
                say(&format!("{}; try again", ErrorChain(&error)));
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

fn prompt_twice(
    parse: impl Fn(&str) -> Result<Password, PasswordError>,
) -> Result<Password, CommandError> {
    let first = Zeroizing::new(rpassword::prompt_password("Password: ")?);
    let password = parse(&first)?;
    let again = Zeroizing::new(rpassword::prompt_password("Again: ")?);
    if *first == *again { Ok(password) } else { Err(CommandError::PasswordsDiffer) }
}

/// Asks whether to do something, such as "delete the client `orders`", unless the answer was given
/// as an option.
///
/// # Errors
/// Returns [`CommandError::Declined`] without consent, and [`CommandError::NotConfirmed`] if there is
/// no terminal to ask on.
pub(super) fn confirm(action: &str, yes: bool) -> Result<(), CommandError> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CommandError::NotConfirmed(action.to_owned()));
    }
    write!(io::stderr(), "Really {action}? [y/N] ")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(CommandError::Declined),
    }
}
