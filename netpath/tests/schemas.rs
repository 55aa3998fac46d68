//! The JSON schemas in `docs/schema/` are those of the types. `UPDATE_SCHEMAS=1 cargo test -p netpath --test schemas` writes them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use netpath::doctor::Diagnosis;
use netpath::render::devices::List;
use netpath::report::{Diff, Report};
use netpath::serve::flows::record::{EniRecord, FlowRecord, WindowRecord};
use netpath::trace::Line;
use schemars::{JsonSchema, generate::SchemaSettings};

fn schema_of<T: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    serde_json::to_string_pretty(&schema).unwrap() + "\n"
}

#[test]
fn they_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    for (name, schema) in [
        ("netpath.report-1.json", schema_of::<Report>()),
        ("netpath.devices-1.json", schema_of::<List>()),
        ("netpath.diff-1.json", schema_of::<Diff>()),
        ("netpath.trace-1.json", schema_of::<Line>()),
        ("netpath.doctor-1.json", schema_of::<Diagnosis>()),
        ("netpath.flow-1.json", schema_of::<FlowRecord>()),
        ("netpath.eni-1.json", schema_of::<EniRecord>()),
        ("netpath.window-1.json", schema_of::<WindowRecord>()),
    ] {
        let path = folder.join(name);
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &schema).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            stored == schema,
            "docs/schema/{name} is old; write it with UPDATE_SCHEMAS=1, and read what has changed"
        );
    }
}
