//! What the binary is made of, for scanners: a CycloneDX document (<https://cyclonedx.org/docs/1.5/json/>).
//!
//! In: the parts. Out: JSON, the same for the same parts. Pure.

use serde_json::{Value, json};

use super::parts::{Part, Parts};

/// What netpath itself is in it.
const NETPATH: &str = "netpath";

/// The document for this version, of this time (RFC 3339).
pub fn sbom(parts: &Parts, version: &str, time: &str) -> Value {
    let dependency = |of: &str, uses: Vec<&String>| json!({"ref": of, "dependsOn": uses});
    let own = dependency(NETPATH, parts.direct.iter().collect());
    let others = parts.all.iter().map(|part| dependency(&part.purl, part.uses.iter().collect()));
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "component": {
                "type": "application",
                "bom-ref": NETPATH,
                "name": NETPATH,
                "version": version,
                "licenses": [{"expression": "MIT OR Apache-2.0"}],
            },
        },
        "components": parts.all.iter().map(component).collect::<Vec<_>>(),
        "dependencies": std::iter::once(own).chain(others).collect::<Vec<_>>(),
    })
}

fn component(part: &Part) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": part.purl,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
        "licenses": [{"expression": part.licence}],
    });
    if let Some(checksum) = &part.checksum {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    if let Some(repository) = &part.repository {
        component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
    }
    component
}
