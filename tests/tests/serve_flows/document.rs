//! `docs/fleet.md`, taken apart: its statements and questions by the headings that they are under.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

/// Where the document says that records are.
const FOLDER: &str = "/var/lib/netpath/flows";
/// Of what day it asks.
const DAY: &str = "2026-01-31";

pub struct Document(Vec<(String, String)>);

/// The rows that answer each question.
pub type Answers = BTreeMap<String, Vec<Vec<Value>>>;

impl Document {
    pub fn read() -> Self {
        let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/fleet.md")).unwrap();
        let (mut heading, mut sql, mut blocks) = (String::new(), None::<String>, Vec::new());
        for line in text.lines() {
            match &mut sql {
                Some(_) if line == "```" => blocks.push((heading.clone(), sql.take().unwrap())),
                Some(sql) => sql.extend([line, "\n"]),
                None if line == "```sql" => sql = Some(String::new()),
                None if line.starts_with('#') => line.trim_start_matches(['#', ' ']).clone_into(&mut heading),
                None => {}
            }
        }
        Self(blocks)
    }

    pub fn block(&self, heading: &str) -> &str {
        let mut under = self.0.iter().filter(|(known, _)| known == heading);
        let Some((_, sql)) = under.next() else { panic!("no SQL under '{heading}'") };
        assert!(under.next().is_none(), "more than one block under '{heading}'");
        sql
    }

    /// Asks an engine all questions, of records in a folder, since a day.
    pub fn ask(&self, engine: &str, folder: &Path, day: &str) -> Answers {
        let views = "Views for all three";
        let statements = [self.block(engine), self.block(views)].into_iter().flat_map(statements);
        let statements: Vec<_> = statements.map(|sql| sql.replace(FOLDER, folder.to_str().unwrap())).collect();
        assert!(statements.iter().filter(|sql| sql.contains(folder.to_str().unwrap())).count() == 3);
        let tables = ["DuckDB", "ClickHouse", "Athena", views];
        let questions: BTreeMap<_, _> = self
            .0
            .iter()
            .filter(|(heading, _)| !tables.contains(&&**heading))
            .map(|(heading, sql)| {
                assert!(sql.contains(DAY), "'{heading}' asks of all days");
                (heading, sql.trim_end().trim_end_matches(';').replace(DAY, day))
            })
            .collect();
        let asked = json!({"engine": engine, "statements": statements, "questions": questions}).to_string();

        let mut python = lab::python().unwrap();
        python.args(["-c", include_str!("engine.py")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut python = python.spawn().unwrap();
        python.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
        let output = python.wait_with_output().unwrap();
        assert!(output.status.success(), "{engine} refuses");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Statements without comments.
fn statements(sql: &str) -> Vec<String> {
    let code: String = sql.split_inclusive('\n').filter(|line| !line.starts_with("--")).collect();
    code.split(';').map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// Every table of every engine has a column for every field.
#[test]
fn tables_have_all_columns() {
    let document = Document::read();
    for kind in ["flow", "eni", "window"] {
        let path = format!("{}/../docs/schema/netpath.{kind}-1.json", env!("CARGO_MANIFEST_DIR"));
        let schema: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let mut fields: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        fields.sort();
        for (engine, begin, table) in [
            ("DuckDB", "columns = {", format!("CREATE VIEW {kind}s AS")),
            ("ClickHouse", "'JSONEachRow',", format!("CREATE VIEW {kind}s AS")),
            ("Athena", "(", format!("CREATE EXTERNAL TABLE {kind}s (")),
        ] {
            let all = statements(document.block(engine));
            let sql = all.iter().find(|sql| sql.starts_with(&table)).unwrap();
            let columns = sql.split_once(begin).unwrap().1.replace("struct<name:string,bytes:bigint>", "");
            let columns = columns.replace("(name String, bytes Int64)", "").replace("(name VARCHAR, bytes BIGINT)", "");
            let columns = columns.split("PARTITIONED").next().unwrap().split('\n').flat_map(|line| line.split(", "));
            let name = |column: &str| {
                column.trim_start_matches([' ', '\'']).split([':', ' ', ')', '}']).next().unwrap().to_owned()
            };
            let partitions = ["date", "hour", "node", "SETTINGS", ""];
            let mut columns: Vec<_> = columns.map(name).filter(|name| !partitions.contains(&&**name)).collect();
            columns.sort();
            assert_eq!(columns, fields, "{engine}: {sql}");
        }
    }
}
