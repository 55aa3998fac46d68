//! Options from a file.
//!
//! In: TOML with the long names of options. Out: the arguments that they stand for, as if they had been given first.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use thiserror::Error;
use toml::{Table, Value};

/// Why a file of options cannot be used.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// More than anybody writes by hand.
const MOST_BYTES: u64 = 1 << 20;

/// The arguments that a file of options stands for, but for options that are `given` already.
pub fn arguments(file: &Path, given: impl Fn(&str) -> bool) -> Result<Vec<String>, ConfigError> {
    let name = file.display();
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
    read.map_err(|error| ConfigError(format!("cannot read {name}: {}; check --config", super::super::reason(&error))))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(ConfigError(format!("{name} is longer than 1 MiB; check --config")));
    }
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        ConfigError(format!("{name} is not TOML: line {line}: {}", error.message().trim()))
    })?;
    let mut arguments = Vec::new();
    for (key, value) in table.into_iter().filter(|(key, _)| !given(key)) {
        add(&mut arguments, &key, value).map_err(|why| ConfigError(format!("{name}: '{key}' {why}")))?;
    }
    Ok(arguments)
}

fn add(arguments: &mut Vec<String>, key: &str, value: Value) -> Result<(), &'static str> {
    match value {
        _ if key == "config" => return Err("cannot be in a file; put all options into one"),
        Value::String(text) => arguments.push(format!("--{key}={text}")),
        Value::Integer(number) => arguments.push(format!("--{key}={number}")),
        Value::Float(number) => arguments.push(format!("--{key}={number}")),
        Value::Boolean(true) => arguments.push(format!("--{key}")),
        Value::Boolean(false) => {}
        Value::Array(values) => {
            for value in values {
                if !matches!(value, Value::String(_)) {
                    return Err("has to be a list of texts, as in [\"one\", \"two\"]");
                }
                add(arguments, key, value)?;
            }
        }
        Value::Table(_) | Value::Datetime(_) => {
            return Err("has to be a text, a number, true, false, or a list of texts");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<String>, String> {
        let given = |key: &str| key == "given";
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        arguments(file.path(), given)
            .map_err(|error| error.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    #[test]
    fn what_stands_for_arguments() {
        let text =
            "interval = \"10s\"\nmax-series = 5\noffline = true\ngiven = 7\nveths = false\neni = [\"a*\", \"b\"]\n";
        let arguments = ["--eni=a*", "--eni=b", "--interval=10s", "--max-series=5", "--offline"].map(str::to_owned);
        assert_eq!(of(text), Ok(arguments.into()));
    }

    #[test]
    fn what_does_not() {
        assert!(
            of("a = 1\nb = \n").is_err_and(|why| why.starts_with("FILE is not TOML: line 2: ")),
            "{:?}",
            of("a = 1\nb = \n")
        );
        assert_eq!(
            of("[eni]\na = 1"),
            Err("FILE: 'eni' has to be a text, a number, true, false, or a list of texts".into())
        );
        assert_eq!(of("eni = [1]"), Err("FILE: 'eni' has to be a list of texts, as in [\"one\", \"two\"]".into()));
        assert!(of("config = \"x\"").is_err());
        assert!(arguments(Path::new("/dev/zero"), |_| false).is_err_and(|why| why.to_string().contains("1 MiB")));
        assert!(
            arguments(Path::new("/nonexistent/x"), |_| false)
                .is_err_and(|why| why.to_string().contains("no such file"))
        );
    }
}
