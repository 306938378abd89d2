//! Lists of software: SPDX and CycloneDX in JSON.

use serde_json::Value;

/// Packages that are read of one list.
const MAX_PACKAGES: usize = 200_000;

/// How deep components of CycloneDX may be nested.
const MAX_DEPTH: usize = 16;

/// A list of software.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sbom {
    /// Its format and version: `SPDX-2.3`, `CycloneDX 1.5`.
    pub format: String,
    /// The packages, in its order.
    pub packages: Vec<Package>,
}

/// A package. What is not said is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence, as an expression of SPDX where it is one.
    pub licence: String,
    /// Its package URL.
    pub purl: String,
}

/// Reads a list of software; `None` if it is none.
pub(super) fn read(document: &Value) -> Option<Sbom> {
    if let Some(version) = document["spdxVersion"].as_str() {
        let packages = document["packages"].as_array().into_iter().flatten();
        let packages = packages.take(MAX_PACKAGES).map(of_spdx).collect();
        return Some(Sbom { format: version.to_owned(), packages });
    }
    if document["bomFormat"].as_str() == Some("CycloneDX") {
        let version = document["specVersion"].as_str().unwrap_or_default();
        let mut packages = Vec::new();
        add_components(&document["components"], 0, &mut packages);
        return Some(Sbom {
            format: format!("CycloneDX {version}").trim_end().to_owned(),
            packages,
        });
    }
    None
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn of_spdx(package: &Value) -> Package {
    let is_said = |licence: &String| !matches!(licence.as_str(), "" | "NOASSERTION" | "NONE");
    let licences = ["licenseConcluded", "licenseDeclared"].map(|key| text(&package[key]));
    let references = package["externalRefs"].as_array().into_iter().flatten();
    let mut purls = references.filter(|reference| reference["referenceType"] == "purl");
    Package {
        name: text(&package["name"]),
        version: text(&package["versionInfo"]),
        licence: licences.into_iter().find(is_said).unwrap_or_default(),
        purl: purls.next().map(|purl| text(&purl["referenceLocator"])).unwrap_or_default(),
    }
}

fn add_components(components: &Value, depth: usize, packages: &mut Vec<Package>) {
    for component in components.as_array().into_iter().flatten() {
        if packages.len() >= MAX_PACKAGES {
            return;
        }
        let licences = component["licenses"].as_array().into_iter().flatten();
        let licences = licences.map(|row| {
            let of = [&row["expression"], &row["license"]["id"], &row["license"]["name"]];
            of.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
        });
        let licences: Vec<String> = licences.filter(|licence| !licence.is_empty()).collect();
        packages.push(Package {
            name: text(&component["name"]),
            version: text(&component["version"]),
            licence: licences.join(" AND "),
            purl: text(&component["purl"]),
        });
        if depth < MAX_DEPTH {
            add_components(&component["components"], depth + 1, packages);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_formats() {
        let spdx = json!({
            "spdxVersion": "SPDX-2.3",
            "packages": [
                {
                    "name": "a", "versionInfo": "1", "licenseConcluded": "NOASSERTION",
                    "licenseDeclared": "MIT",
                    "externalRefs": [
                        { "referenceType": "cpe23Type", "referenceLocator": "cpe" },
                        { "referenceType": "purl", "referenceLocator": "pkg:deb/a@1" },
                    ],
                },
                7,
            ],
        });
        let cyclone = json!({
            "bomFormat": "CycloneDX", "specVersion": "1.5",
            "components": [{
                "name": "a", "version": "1", "purl": "pkg:deb/a@1",
                "licenses": [{ "license": { "id": "MIT" } }],
                "components": [{ "name": null }],
            }],
        });
        let package = Package {
            name: "a".into(),
            version: "1".into(),
            licence: "MIT".into(),
            purl: "pkg:deb/a@1".into(),
        };
        for (document, format) in [(&spdx, "SPDX-2.3"), (&cyclone, "CycloneDX 1.5")] {
            let sbom = read(document).unwrap();
            assert_eq!(sbom.format, format);
            assert_eq!(sbom.packages, [package.clone(), Package::default()]);
        }
        assert_eq!(read(&json!({ "spdxVersion": 3 })), None);
        assert!(read(&json!({ "spdxVersion": "x", "packages": {} })).unwrap().packages.is_empty());
    }
}
