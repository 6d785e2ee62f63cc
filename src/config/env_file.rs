//! The `.env` file. Its values are literal: text that other programs expand or unescape is refused.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::settings::{ConfigError, Secret};

/// Returns `true` if every user of the machine can read a file.
#[must_use]
pub fn is_readable_by_others(file: &Metadata) -> bool {
    file.permissions().mode() & 0o004 != 0
}

/// Variables of a `.env` file.
#[derive(Clone, Debug, Default)]
pub(super) struct EnvFile {
    settings: BTreeMap<String, Secret>,
    /// Names that are not settings, in the order of the file.
    pub(super) other_names: Vec<String>,
    /// Other users of the machine can read the file.
    pub(super) is_readable_by_others: bool,
}

impl EnvFile {
    /// Reads a file. A missing one has no variables. Values of names that are not settings are not
    /// parsed: they are for other programs.
    ///
    /// # Errors
    /// Returns all problems of the file, without its values.
    pub(super) fn read(
        path: &Path,
        is_setting: impl Fn(&str) -> bool,
    ) -> Result<Self, ConfigError> {
        let failed = |problem: &str| ConfigError(vec![format!("{} {problem}", path.display())]);
        let content = match fs::read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(&format!("cannot be read: {error}"))),
        };
        let text = String::from_utf8(content).map_err(|_| failed("must be text in UTF-8"))?;
        let metadata = fs::metadata(path).map_err(|error| failed(&error.to_string()))?;
        let mut file = Self::parse(&Secret::new(text), is_setting).map_err(|problems| {
            let name = |problem| format!("{} {problem}", path.display());
            ConfigError(problems.into_iter().map(name).collect())
        })?;
        file.is_readable_by_others = is_readable_by_others(&metadata);
        Ok(file)
    }

    /// Returns the value of a setting; an empty one counts as unset.
    pub(super) fn get(&self, name: &str) -> Option<&Secret> {
        self.settings.get(name).filter(|value| !value.expose().is_empty())
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// Returns a problem for each malformed line.
    pub(super) fn parse(
        text: &Secret,
        is_setting: impl Fn(&str) -> bool,
    ) -> Result<Self, Vec<String>> {
        let mut file = Self::default();
        let mut problems = Vec::new();
        let text = text.expose();
        for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            if let Err(problem) = file.add_line(line.trim(), &is_setting) {
                problems.push(format!("line {}: {problem}", index + 1));
            }
        }
        if problems.is_empty() { Ok(file) } else { Err(problems) }
    }

    fn add_line(&mut self, line: &str, is_setting: impl Fn(&str) -> bool) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let assignment = line.strip_prefix("export ").unwrap_or(line).split_once('=');
        let Some((name, value)) = assignment.filter(|(name, _)| is_name(name.trim())) else {
            return Err("must be NAME=VALUE, or a comment after #".to_owned());
        };
        let name = name.trim();
        if !is_setting(name) {
            self.other_names.push(name.to_owned());
            return Ok(());
        }
        let value =
            parse_value(value).map_err(|problem| format!("the value of {name} {problem}"))?;
        match self.settings.insert(name.to_owned(), Secret::new(value.to_owned())) {
            Some(_) => Err(format!("{name} is set a second time")),
            None => Ok(()),
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Parses a value, with or without quotes, and a comment after it.
///
/// A shell, Docker Compose and the libraries that read such files agree on text in single quotes.
/// In other text they differ about dollar signs and backslashes, which would change a secret
/// silently.
fn parse_value(raw: &str) -> Result<&str, &'static str> {
    const AMBIGUOUS: &str = "contains $, ` or \\, which programs read in different ways: put it in \
                             single quotes, or name a file that contains it (_FILE)";
    let text = raw.trim();
    if text.contains('\0') {
        return Err("contains the character NUL");
    }
    let is_ambiguous = |value: &str| value.contains(['$', '`', '\\']);
    for quote in ['\'', '"'] {
        let Some(quoted) = text.strip_prefix(quote) else { continue };
        let (value, rest) = quoted.split_once(quote).ok_or("has no closing quote")?;
        if !rest.trim().is_empty() && !rest.trim_start_matches(' ').starts_with('#')
            || rest.starts_with('#')
        {
            return Err("continues after its closing quote");
        }
        let is_refused = quote == '"' && is_ambiguous(value);
        return if is_refused { Err(AMBIGUOUS) } else { Ok(value) };
    }
    if text.starts_with('#') && !raw.starts_with('#') {
        return Ok("");
    }
    let value = match text.find(" #").or_else(|| text.find("\t#")) {
        Some(comment) => text[..comment].trim_end(),
        None => text,
    };
    if is_ambiguous(value) {
        return Err(AMBIGUOUS);
    }
    if value.starts_with('#') || value.contains(|c: char| c.is_whitespace() || "'\"".contains(c)) {
        return Err("contains a space, a quote or a leading #: put it in single quotes");
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EnvFile, Vec<String>> {
        EnvFile::parse(&Secret::new(text.to_owned()), |name| name != "OTHER")
    }

    /// Returns the value of `KEY` in a file of one line.
    fn value(line: &str) -> Result<String, String> {
        let file = parse(&format!("KEY={line}\n")).map_err(|problems| problems.join("\n"))?;
        Ok(file.settings["KEY"].expose().to_owned())
    }

    #[test]
    fn values_are_read_as_people_write_them() {
        let cases = [
            ("", ""),
            ("plain", "plain"),
            ("  spaced  ", "spaced"),
            ("a=b==", "a=b=="),
            ("a#b", "a#b"),
            ("a # comment", "a"),
            ("# comment", ""),
            ("''", ""),
            ("'two words # $HOME \\n \"x\"'", "two words # $HOME \\n \"x\""),
            ("\"two words # it's\"", "two words # it's"),
            ("\"a\" # comment", "a"),
            ("postgres://u:p%40ss@h/d?sslmode=require", "postgres://u:p%40ss@h/d?sslmode=require"),
            ("пароль🫠", "пароль🫠"),
        ];
        for (line, expected) in cases {
            // A comment needs a space before it.
            let line = if line.starts_with('#') { format!(" {line}") } else { line.to_owned() };
            assert_eq!(value(&line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn ambiguous_values_are_refused_without_showing_them() {
        for line in [
            "hunter2$abc",
            "hunter2\\n",
            "\"hunter2$abc\"",
            "\"hunter2\\\"\"",
            "hunter2`id`",
            "hunter2 word",
            "hunter2'x'",
            "'hunter2",
            "\"hunter2",
            "'hunter2'x",
            "'hunter2'#x",
            "#hunter2",
            "hunter2\0",
            "'hunter2\0'",
        ] {
            let problem = value(line).unwrap_err();
            assert!(problem.starts_with("line 1: the value of KEY "), "{line}: {problem}");
            assert!(!problem.contains("hunter2"), "{line}: {problem}");
        }
    }

    #[test]
    fn lines_are_assignments_comments_or_empty() {
        let file = parse("\u{feff}# comment\r\n\r\nexport A=1\r\n B = 2\nOTHER=\"$x\n").unwrap();

        assert_eq!(file.get("A").unwrap().expose(), "1");
        assert_eq!(file.get("B").unwrap().expose(), "2");
        assert_eq!(file.other_names, ["OTHER"]);
        assert_eq!(
            parse("A=1\nhunter2\n=hunter2\nhunter 2=x\nA=2\n").unwrap_err(),
            [
                "line 2: must be NAME=VALUE, or a comment after #",
                "line 3: must be NAME=VALUE, or a comment after #",
                "line 4: must be NAME=VALUE, or a comment after #",
                "line 5: A is set a second time",
            ]
        );
    }

    #[test]
    fn empty_value_counts_as_unset() {
        assert!(parse("A=\nB=''\n").unwrap().get("A").is_none());
    }

    #[test]
    fn file_that_is_not_text_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        fs::write(&path, b"KEY=\xff").unwrap();

        let problem = EnvFile::read(&path, |_| true).unwrap_err();

        assert!(problem.to_string().ends_with(".env must be text in UTF-8"), "{problem}");
        assert!(EnvFile::read(&folder.path().join("none"), |_| true).is_ok());
    }
}
