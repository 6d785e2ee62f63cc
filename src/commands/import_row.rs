//! Rows of a file of accounts: JSON Lines and CSV.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::RowFormat;
use crate::domain::{ExternalId, Metadata, PasswordHash, RoleName, Roles, User, UserId, Username};
use crate::store::Credentials;

/// Row of a file.
pub(super) struct Row {
    /// Number of its line, from 1.
    pub(super) line: u64,
    /// The row, or the reason why it cannot be read.
    pub(super) account: Result<RawAccount, String>,
}

/// Account in a file. All but the first two fields are optional.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccount {
    pub(super) username: String,
    password_hash: String,
    roles: Option<Vec<String>>,
    external_id: Option<RawExternalId>,
    metadata: Option<Value>,
    created_at: Option<String>,
    disabled: Option<bool>,
    /// Id in another instance of the service, to which APIs may refer.
    id: Option<UserId>,
}

/// External id: a text, or a number as most systems have.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawExternalId {
    Text(String),
    Number(i64),
}

/// Account in a CSV file. Roles are separated by spaces, and metadata are JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CsvAccount {
    username: String,
    password_hash: String,
    roles: Option<String>,
    external_id: Option<String>,
    metadata: Option<String>,
    created_at: Option<String>,
    disabled: Option<String>,
    id: Option<UserId>,
}

/// Maximum length of a line of JSON Lines, in bytes.
const MAX_LINE: usize = 64 * 1024;

/// Opens a file, or standard input for `-`.
pub(super) fn open(file: &Path) -> io::Result<Box<dyn Read>> {
    if file == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    Ok(Box::new(File::open(file)?))
}

/// Reads the rows of a file, one at a time.
///
/// # Errors
/// Returns an error if the header of a CSV file cannot be read or has no `username`.
pub(super) fn read(
    file: Box<dyn Read>,
    format: RowFormat,
) -> io::Result<Box<dyn Iterator<Item = io::Result<Row>>>> {
    Ok(match format {
        RowFormat::Jsonl => Box::new(read_json_lines(BufReader::new(file))),
        RowFormat::Csv => Box::new(read_csv(file)?),
    })
}

fn read_json_lines(mut file: impl BufRead) -> impl Iterator<Item = io::Result<Row>> {
    let mut line = 0;
    let lines = std::iter::from_fn(move || {
        line += 1;
        match read_line(&mut file) {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(Ok((line, text))),
            Err(error) => Some(Err(error)),
        }
    });
    let is_too_long = |text: &[u8]| text.len() > MAX_LINE;
    let is_blank = move |text: &[u8]| !is_too_long(text) && text.trim_ascii().is_empty();
    let is_row = move |read: &io::Result<(u64, Vec<u8>)>| {
        !read.as_ref().is_ok_and(|(_, text)| is_blank(text))
    };
    lines.filter(is_row).map(move |read| {
        let (line, text) = read?;
        let account = if is_too_long(&text) {
            Err(format!("the line is longer than {MAX_LINE} bytes"))
        } else {
            serde_json::from_slice(&text).map_err(|error| error.to_string())
        };
        Ok(Row { line, account })
    })
}

/// Reads a line with its end; of one that is too long, [`MAX_LINE`] bytes and one more.
fn read_line(file: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.by_ref().take(MAX_LINE as u64 + 1).read_until(b'\n', &mut text)?;
    if text.len() > MAX_LINE && !text.ends_with(b"\n") {
        file.skip_until(b'\n')?;
    }
    Ok(text)
}

fn read_csv(file: impl Read) -> io::Result<impl Iterator<Item = io::Result<Row>>> {
    let mut reader = csv::Reader::from_reader(file);
    if !reader.headers()?.iter().any(|name| name == "username") {
        return Err(io::Error::other("the first line is no CSV header with a `username`"));
    }
    let rows = reader.into_deserialize().enumerate().map(|(index, read)| {
        // Below the header. Fields with line breaks move later rows down.
        let line = index as u64 + 2;
        match read {
            Ok(account) => Ok(Row { line, account: RawAccount::from_csv(account) }),
            Err(error) if error.is_io_error() => Err(error.into()),
            Err(error) => Ok(Row { line, account: Err(error.to_string()) }),
        }
    });
    Ok(rows)
}

impl RawAccount {
    fn from_csv(row: CsvAccount) -> Result<Self, String> {
        let metadata = row.metadata.as_deref().map(serde_json::from_str).transpose();
        let names = |roles: String| roles.split_whitespace().map(str::to_owned).collect();
        Ok(Self {
            username: row.username,
            password_hash: row.password_hash,
            roles: row.roles.map(names),
            external_id: row.external_id.map(RawExternalId::Text),
            metadata: metadata.map_err(|error| format!("metadata: {error}"))?,
            created_at: row.created_at,
            disabled: row.disabled.as_deref().map(parse_bool).transpose()?,
            id: row.id,
        })
    }

    /// Parses the account. It has the role `user` if it names none, and was registered at `now` if it
    /// does not say when.
    ///
    /// # Errors
    /// Returns the reason for a person.
    pub(super) fn parse(self, now: OffsetDateTime) -> Result<Credentials, String> {
        let username = Username::parse_existing(&self.username).map_err(text)?;
        let roles = match self.roles {
            Some(names) => Roles::parse(names).map_err(text)?,
            None => Roles::from_iter([RoleName::USER]),
        };
        let external_id = self.external_id.map(|id| id.to_text());
        let external_id =
            external_id.as_deref().map(ExternalId::parse).transpose().map_err(text)?;
        let metadata = self.metadata.map(Metadata::try_from).transpose().map_err(text)?;
        let created_at = self.created_at.as_deref().map(parse_time).transpose()?.unwrap_or(now);
        let new = User::new(username, roles, created_at);
        let user = User {
            id: self.id.unwrap_or(new.id),
            external_id,
            metadata: metadata.unwrap_or_default(),
            disabled_at: self.disabled.unwrap_or_default().then_some(now),
            ..new
        };
        let password_hash: PasswordHash =
            self.password_hash.parse().map_err(|error| format!("password_hash: {error}"))?;
        Ok(Credentials { user, password_hash })
    }
}

impl RawExternalId {
    fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err("disabled must be true or false".to_owned()),
    }
}

/// Parses a time of RFC 3339, and those that databases print: with a space for the `T`, in UTC where
/// they name no zone, or with an offset of hours alone.
fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    let mut text = text.trim().replacen(' ', "T", 1);
    let offset = text.rfind(['+', '-']).filter(|&start| text[..start].contains('T'));
    match offset {
        Some(start) if text.len() - start == 3 => text.push_str(":00"),
        None if !text.ends_with(['Z', 'z']) => text.push('Z'),
        _ => {}
    }
    let time = OffsetDateTime::parse(&text, &Rfc3339);
    let in_utc = time.ok().and_then(|time| time.checked_to_offset(time::UtcOffset::UTC));
    in_utc.ok_or_else(|| "created_at must be a time such as 2026-05-01T09:30:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:04:05 UTC);
    const HASH: &str = "$pbkdf2-sha256$i=1000,l=32$AAECAwQFBgcICQoLDA0ODw$\
                        AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn rows(file: &str, format: RowFormat) -> Vec<(u64, Result<Credentials, String>)> {
        let file = file.replace("HASH", HASH).into_bytes();
        let rows = read(Box::new(io::Cursor::new(file)), format).unwrap();
        rows.map(Result::unwrap)
            .map(|row| (row.line, row.account.and_then(|account| account.parse(NOW))))
            .collect()
    }

    #[test]
    fn formats_say_the_same() {
        let json = rows(
            r#"{"username":"John Doe","password_hash":"HASH","roles":["admin","user"],"external_id":42,
               "metadata":{"plan":"pro"},"created_at":"2024-05-01T10:00:00Z","disabled":true}"#
                .replace('\n', "")
                .as_str(),
            RowFormat::Jsonl,
        );
        let csv = rows(
            "username,password_hash,roles,external_id,metadata,created_at,disabled\n\
             John Doe,\"HASH\",admin user,42,\"{\"\"plan\"\":\"\"pro\"\"}\",2024-05-01 10:00:00+00,t\n",
            RowFormat::Csv,
        );
        let [(1, Ok(json))] = json.as_slice() else { panic!("{json:?}") };
        let [(2, Ok(csv))] = csv.as_slice() else { panic!("{csv:?}") };

        assert_eq!(json.user, User { id: json.user.id, ..csv.user.clone() });
        assert_eq!(json.password_hash, csv.password_hash);
        assert_eq!(json.user.created_at, datetime!(2024-05-01 10:00:00 UTC));
        assert_eq!(json.user.disabled_at, Some(NOW));
        assert_eq!(json.user.external_id, ExternalId::parse("42").ok());
    }

    #[test]
    fn row_that_does_not_parse_spoils_no_other() {
        let file = [
            r#"{"username":"alice","password_hash":"HASH"}"#,
            "",
            r#"{"username":"bob","password_hash":"HASH""#,
            r#"{"username":"bob"}"#,
            r#"{"username":"bob","password":"HASH"}"#,
            r#"{"username":"b\u0000b","password_hash":"HASH"}"#,
            r#"{"username":"bob","password_hash":"md5"}"#,
            r#"{"username":"bob","password_hash":"HASH","roles":["Admin!"]}"#,
            r#"{"username":"bob","password_hash":"HASH","created_at":"yesterday"}"#,
            r#"{"username":"carol","password_hash":"HASH"}"#,
        ];
        let rows = rows(&file.join("\n"), RowFormat::Jsonl);

        let good: Vec<_> = rows.iter().filter(|row| row.1.is_ok()).map(|row| row.0).collect();
        assert_eq!((good, rows.len()), (vec![1, 10], 9));
    }

    #[test]
    fn line_that_is_too_long_spoils_no_other() {
        let row = |username: &str| format!(r#"{{"username":"{username}","password_hash":"HASH"}}"#);
        let padding = " ".repeat(200_000);
        let file =
            [row("alice"), padding.clone() + &row("bob"), row("carol"), row("dave") + &padding];

        let rows = rows(&file.join("\n"), RowFormat::Jsonl);

        let good: Vec<_> = rows.iter().filter(|row| row.1.is_ok()).map(|row| row.0).collect();
        assert_eq!((good, rows.len()), (vec![1, 3], 4));
        assert_eq!(rows[3].1.as_ref().unwrap_err(), "the line is longer than 65536 bytes");
    }

    #[test]
    fn csv_without_username_is_refused_as_a_whole() {
        for file in ["", r#"{"username":"alice","password_hash":"x"}"#, "name,password_hash\na,b\n"]
        {
            let file = Box::new(io::Cursor::new(file.as_bytes().to_vec()));
            assert!(read(file, RowFormat::Csv).is_err());
        }
    }

    #[test]
    fn times_of_databases_are_read() {
        let time = datetime!(2024-05-01 10:00:00.25 UTC);
        for text in [
            "2024-05-01T10:00:00.25Z",
            "2024-05-01T12:00:00.25+02:00",
            "2024-05-01 10:00:00.250000",
            "2024-05-01 12:00:00.25+02",
            "2024-05-01T05:00:00.25-05",
        ] {
            assert_eq!(parse_time(text), Ok(time), "{text}");
        }
        for text in ["", "2024-05-01", "10:00", "+", "2024-13-01T10:00:00Z"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
