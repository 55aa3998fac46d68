//! Holds netpath's JSON against the schemas in docs/schema: every document that a test reads comes through here.

use std::sync::LazyLock;

use anyhow::{Context as _, Result, anyhow};
use boon::{Compiler, SchemaIndex, Schemas};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Each document by the name that it has in itself, and its schema.
const SCHEMAS: [(&str, &str); 7] = [
    ("netpath.report/1", include_str!("../../docs/schema/netpath.report-1.json")),
    ("netpath.devices/1", include_str!("../../docs/schema/netpath.devices-1.json")),
    ("netpath.trace/1", include_str!("../../docs/schema/netpath.trace-1.json")),
    ("netpath.doctor/1", include_str!("../../docs/schema/netpath.doctor-1.json")),
    ("netpath.flow/1", include_str!("../../docs/schema/netpath.flow-1.json")),
    ("netpath.eni/1", include_str!("../../docs/schema/netpath.eni-1.json")),
    ("netpath.window/1", include_str!("../../docs/schema/netpath.window-1.json")),
];

/// Larger documents are not held against their schema: those are reports of a hundred thousand flows and more, for which an
/// unoptimised validator takes minutes. Each kind of document is there in smaller ones.
const MOST_CHECKED_BYTES: usize = 32 << 20;

/// The schemas, ready for use.
struct Compiled {
    schemas: Schemas,
    named: Vec<(&'static str, SchemaIndex)>,
}

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    let mut compile = |(name, text): (&'static str, &str)| {
        let place = format!("file:///{name}.json");
        let schema = serde_json::from_str(text).expect("a schema is JSON");
        compiler.add_resource(&place, schema).expect("a place for each schema");
        (name, compiler.compile(&place, &mut schemas).expect("a schema that holds together"))
    };
    let named = SCHEMAS.map(&mut compile).into();
    Compiled { schemas, named }
});

/// Reads a document that netpath wrote: a report, a list of devices, or a diagnosis.
///
/// # Errors
/// When it is no JSON, or not as its schema has it.
pub fn read<T: DeserializeOwned>(document: &[u8]) -> Result<T> {
    let shown = || String::from_utf8_lossy(&document[..document.len().min(10_000)]);
    let document_checked = || {
        if document.len() <= MOST_CHECKED_BYTES {
            check(&serde_json::from_slice(document).context("it is no JSON")?)?;
        }
        serde_json::from_slice(document).context("it is not what the tests read")
    };
    document_checked().with_context(|| format!("netpath wrote: {}", shown()))
}

/// Holds a document against the schema that it names.
fn check(document: &Value) -> Result<()> {
    let name = document["schema"].as_str().context("it names no schema")?;
    let found = COMPILED.named.iter().find(|(known, _)| *known == name);
    let (_, schema) = found.with_context(|| format!("docs/schema has no {name}"))?;
    let outcome = COMPILED.schemas.validate(document, *schema);
    outcome.map_err(|error| anyhow!("it is not as docs/schema has {name}: {error:#}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A document that is as its schema has it.
    fn diagnosis() -> Value {
        let device = json!({
            "name": "eth0", "ifindex": 2, "class": "eni", "measured": true, "level": "ok", "found": null, "todo": null,
            "rx": ["other (TCX program 7)"], "tx": [],
        });
        json!({
            "schema": "netpath.doctor/1", "netpath_version": "0.1.0", "level": "ok", "devices": [device],
            "findings": [{"check": "kernel", "level": "ok", "found": "6.12", "todo": null}],
        })
    }

    fn error(document: &Value) -> String {
        format!("{:#}", read::<Value>(document.to_string().as_bytes()).unwrap_err())
    }

    #[test]
    fn what_is_as_the_schema_has_it_is_read() {
        let read: Value = read(diagnosis().to_string().as_bytes()).unwrap();
        assert_eq!(read, diagnosis());
    }

    /// Each of these changes would break a reader of the document.
    #[test]
    fn what_is_not_as_the_schema_has_it_is_an_error() {
        type Change = fn(&mut Value);
        let changes: [(&str, Change); 5] = [
            ("missing properties 'level'", |document| drop(document.as_object_mut().unwrap().remove("level"))),
            ("missing properties 'ifindex'", |document| {
                drop(document["devices"][0].as_object_mut().unwrap().remove("ifindex"));
            }),
            ("want integer, but got string", |document| document["devices"][0]["ifindex"] = json!("2")),
            ("want array, but got null", |document| document["devices"][0]["rx"] = Value::Null),
            ("oneOf", |document| document["findings"][0]["level"] = json!("bad")),
        ];
        for (expected, change) in changes {
            let mut document = diagnosis();
            change(&mut document);
            let error = error(&document);
            assert!(
                error.contains("docs/schema has netpath.doctor/1") && error.contains(expected),
                "{expected}: {error}"
            );
        }
    }

    #[test]
    fn a_document_without_a_known_schema_is_an_error() {
        assert!(error(&json!({})).contains("names no schema"));
        assert!(error(&json!({"schema": "netpath.report/0"})).contains("has no netpath.report/0"));
        assert!(format!("{:#}", read::<Value>(b"{").unwrap_err()).contains("no JSON"));
    }
}
