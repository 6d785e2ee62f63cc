//! The names of the settings, and warnings about names that are nearly one.

use strsim::osa_distance;

use super::env_file::EnvFile;
use super::settings::Warning;

/// Settings that are not options of the command line.
pub(super) const VARIABLES: &[&str] = &[
    "DATABASE_LISTEN_URL",
    "DATABASE_LISTEN_URL_FILE",
    "DATABASE_URL_FILE",
    "JWT_SECRET_KEY",
    "JWT_SECRET_KEY_FILE",
    "JWT_SECRET_KEY_PREVIOUS",
    "JWT_SECRET_KEY_PREVIOUS_FILE",
];

/// Variables of `.env` that only `docker-compose.yml` uses, apart from those of Compose itself.
const COMPOSE: &[&str] = &[
    "GRAFANA_ADMIN_PASSWORD",
    "PGADMIN_DEFAULT_PASSWORD",
    "POSTGRES_PASSWORD",
    "POSTGRES_SERVICE_PASSWORD",
];

/// Names that other services use, each with the setting here.
const FOREIGN: &[(&str, &str)] = &[("JWT_ISSUER", "PUBLIC_URL")];

/// Returns a warning for each name in the `.env` file that is unknown, and for each name in the
/// environment that resembles a setting. The environment has many other names.
pub(super) fn warnings(
    settings: &[String],
    file: &EnvFile,
    environment: impl Iterator<Item = String>,
) -> Vec<Warning> {
    let is_known = |name: &str| {
        let is_for_compose = COMPOSE.contains(&name) || name.starts_with("COMPOSE_");
        is_for_compose || settings.iter().any(|setting| setting == name)
    };
    let in_file = file.other_names.iter().filter(|name| !is_known(name)).map(|name| {
        let hint = similar(name, settings).map(|setting| format!("; did you mean {setting}?"));
        format!("{name} in .env is not a setting{}", hint.unwrap_or_default())
    });
    let mut misspelt: Vec<_> = environment
        .filter(|name| !is_known(name))
        .filter_map(|name| {
            let setting = similar(&name, settings)?;
            let warning = "in the environment is not a setting; did you mean";
            Some(format!("{name} {warning} {setting}?"))
        })
        .collect();
    misspelt.sort();
    in_file.chain(misspelt).map(Warning::Setting).collect()
}

/// Returns the setting that a name resembles most, or that begins with its words.
fn similar<'a>(name: &str, settings: &'a [String]) -> Option<&'a str> {
    let name = name.to_uppercase();
    if let Some((_, setting)) = FOREIGN.iter().find(|(foreign, _)| *foreign == name) {
        return Some(setting);
    }
    let settings = || settings.iter().map(String::as_str);
    let begins_with_name =
        |setting: &&str| setting.strip_prefix(&name).is_some_and(|rest| rest.starts_with('_'));
    let extended = settings().find(begins_with_name).filter(|_| name.contains('_'));
    nearest(&name, settings()).or(extended)
}

/// Returns the candidate that a word resembles most, ignoring case: a quarter of its letters may be
/// wrong.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_uppercase();
    let distances = candidates.map(|name| (osa_distance(&word, &name.to_uppercase()), name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    let letters = word.len().max(name.len());
    (distance * 4 <= letters).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::settings::Secret;
    use super::*;

    /// Returns the names in the example, which is tested to have those of all options.
    fn settings() -> Vec<String> {
        let example = include_str!("../../.env.example").lines();
        let assigned = example.filter_map(|line| line.trim_start_matches("# ").split_once('='));
        let options = assigned.map(|(name, _)| name).filter(|name| !name.contains(' '));
        options.chain(VARIABLES.iter().copied()).map(str::to_owned).collect()
    }

    fn warnings_about(names: &[&str]) -> Vec<String> {
        let names = names.iter().map(|&name| name.to_owned());
        warnings(&settings(), &EnvFile::default(), names).iter().map(Warning::to_string).collect()
    }

    #[test]
    fn misspelt_setting_in_the_environment_is_named_with_the_right_one() {
        for (name, setting) in [
            ("DATABSE_URL", "DATABASE_URL"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("JWT_SECRET", "JWT_SECRET_KEY"),
            ("JWT_ACCESS_TOKEN_EXPIRE", "JWT_ACCESS_TOKEN_EXPIRES"),
            ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
            ("JWT_ISSUER", "PUBLIC_URL"),
            ("PROT", "PORT"),
            ("port", "PORT"),
        ] {
            let warning =
                format!("{name} in the environment is not a setting; did you mean {setting}?");
            assert_eq!(warnings_about(&[name]), [warning]);
        }
    }

    #[test]
    fn usual_environment_causes_no_warning() {
        let names = [
            "CARGO_HOME",
            "COLORTERM",
            "DEBIAN_FRONTEND",
            "HOME",
            "HOSTNAME",
            "HTTP_PROXY",
            "LANG",
            "LC_ALL",
            "LOGNAME",
            "LOG_LEVEL",
            "LS_COLORS",
            "MAIL",
            "NO_PROXY",
            "OLDPWD",
            "PATH",
            "PGHOST",
            "PGPORT",
            "POSTGRES_PASSWORD",
            "POSTGRES_PORT",
            "PWD",
            "RUSTUP_HOME",
            "RUST_BACKTRACE",
            "SHELL",
            "SHLVL",
            "SSH_TTY",
            "TERM",
            "TMPDIR",
            "TZ",
            "USER",
            "XDG_SESSION_ID",
            "XDG_SESSION_TYPE",
            "_",
        ];
        assert_eq!(warnings_about(&names), [""; 0]);
        let settings = settings();
        let all: Vec<_> = settings.iter().map(String::as_str).collect();
        assert_eq!(warnings_about(&all), [""; 0]);
    }

    #[test]
    fn every_variable_of_the_example_file_is_known() {
        let example = include_str!("../../.env.example");
        let lines = example.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
        let is_variable = |line: &&str| line.starts_with(char::is_uppercase) && !line.contains(' ');
        let text: Vec<_> = lines.filter(is_variable).collect();
        assert!(text.len() > 40);
        let file = EnvFile::parse(&Secret::new(text.join("\n")), |_| false).unwrap();
        assert_eq!(warnings(&settings(), &file, std::iter::empty()), []);
    }

    #[test]
    fn every_unknown_name_in_the_file_is_named() {
        let text = "PROT=1\nGRAFANA_ADMIN_PASSWORD=x\nCOMPOSE_FILE=x\nMOON_PHASE=full\n";
        let file = EnvFile::parse(&Secret::new(text.to_owned()), |_| false).unwrap();

        assert_eq!(
            warnings(&settings(), &file, std::iter::empty()),
            [
                "PROT in .env is not a setting; did you mean PORT?",
                "MOON_PHASE in .env is not a setting",
            ]
            .map(|warning| Warning::Setting(warning.to_owned()))
        );
    }
}
