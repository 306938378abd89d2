//! Folders of certificates: `certs.d/HOST[:PORT]/` as Docker, podman and containerd read them.
//!
//! `*.crt` are authorities to trust for that host, `X.cert` with `X.key` is who we are. A folder of a
//! host stands alone: the first place that has one is the only one read, as podman does it. A file that
//! can't be understood is an error that names it, since the user who put it there means it to be used; a
//! file or folder that may not be read is passed over, as it may be another user's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::files::{Error, read_if_ours};
use crate::bounded;

/// Longest file of certificates that is read. The bundle of a whole system has some 200 KiB.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// What there is for one host.
#[derive(Clone, Debug, Default)]
pub(super) struct Certificates {
    /// Authorities to trust besides the system's.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// Who we are.
    pub(super) client: Option<Arc<ClientPair>>,
}

impl Certificates {
    pub(super) fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.client.is_none()
    }

    /// These and others. The first that says who we are counts.
    pub(super) fn and(mut self, others: Certificates) -> Certificates {
        self.authorities.extend(others.authorities);
        self.client = self.client.or(others.client);
        self
    }
}

/// A certificate of ours, the ones that vouch for it, and its key.
#[derive(Debug, PartialEq)]
pub(super) struct ClientPair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// What the first of `folders` that knows `host`, with its port if it has one, says of it.
///
/// # Errors
/// A file in it is not what its name says.
pub(super) fn of_host(folders: &[PathBuf], host: &str) -> Result<Option<Certificates>, Error> {
    place(folders, host).map(|place| in_folder(&place)).transpose()
}

/// The folder for `host` in the first of `folders` that has one.
pub(super) fn place(folders: &[PathBuf], host: &str) -> Option<PathBuf> {
    // The name may come from a redirect, so it must not lead anywhere else.
    if host.is_empty() || host.starts_with('.') || host.contains(['/', '\0']) {
        return None;
    }
    folders.iter().map(|folder| folder.join(host)).find(|place| place.is_dir())
}

/// Reads the folder of one host.
///
/// # Errors
/// A file in it is not what its name says.
pub(super) fn in_folder(folder: &Path) -> Result<Certificates, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => {
            log::warn!("certificates in {}: {e}", folder.display());
            return Ok(Certificates::default());
        }
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut found = Certificates::default();
    for path in &paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => {
                if let Some(bytes) = read_if_ours(path, MAX_FILE_BYTES)? {
                    found.authorities.extend(authorities(path, &bytes)?);
                }
            }
            Some("cert") => {
                let key = path.with_extension("key");
                if !key.exists() {
                    let what = format!(
                        "this client certificate needs its key in {} (the certificate of an \
                         authority must be called *.crt)",
                        key.display()
                    );
                    return Err(Error::Invalid { path: path.clone(), what });
                }
                if found.client.is_some() {
                    log::warn!("{}: the first client certificate is used", path.display());
                } else {
                    found.client = client(path, &key)?;
                }
            }
            Some("key") if !path.with_extension("cert").exists() => {
                let what = format!(
                    "this key needs its certificate in {}",
                    path.with_extension("cert").display()
                );
                return Err(Error::Invalid { path: path.clone(), what });
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The authorities in a file.
///
/// # Errors
/// It can't be read, or has none.
pub(super) fn authorities_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = bounded::read_file(path, MAX_FILE_BYTES)
        .map_err(|source| Error::File { path: path.to_owned(), cause: source })?;
    authorities(path, &bytes)
}

/// All certificates of some PEM, whatever else is in it; those that are not even PEM are left out.
pub(super) fn lenient(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let bytes = bounded::read_file(path, MAX_FILE_BYTES)?;
    Ok(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect())
}

fn authorities(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = certificates(path, bytes)?;
    for certificate in &found {
        RootCertStore::empty().add(certificate.clone()).map_err(|e| Error::Invalid {
            path: path.to_owned(),
            what: format!("a certificate in it can't be used: {e}"),
        })?;
    }
    Ok(found)
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let invalid = |what: String| Error::Invalid { path: path.to_owned(), what };
    let found: Result<Vec<_>, PemError> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|e| invalid(format!("not valid PEM: {e}")))?;
    match found.is_empty() {
        true => Err(invalid("there is no certificate in PEM in it".to_owned())),
        false => Ok(found),
    }
}

/// A client certificate and its key; `None` if they are not ours to read.
///
/// # Errors
/// They are not what they should be.
pub(super) fn client(certificate: &Path, key: &Path) -> Result<Option<Arc<ClientPair>>, Error> {
    let read = |path| read_if_ours(path, MAX_FILE_BYTES);
    let (Some(chain), Some(key_bytes)) = (read(certificate)?, read(key)?) else {
        return Ok(None);
    };
    let chain = certificates(certificate, &chain)?;
    let invalid = |what: &str| Error::Invalid { path: key.to_owned(), what: what.to_owned() };
    let key = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|_| {
        invalid("there is no private key in PEM in it (one with a passphrase can't be used)")
    })?;
    Ok(Some(Arc::new(ClientPair { chain, key })))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A folder `host` with some files in it.
    fn place(files: &[(&str, &str)]) -> tempfile::TempDir {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("host:5000")).unwrap();
        for (name, text) in files {
            fs::write(top.path().join("host:5000").join(name), text).unwrap();
        }
        top
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["host".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn files_by_their_names() {
        let (certificate, key) = pair();
        let both = format!("{certificate}{certificate}");
        let top = place(&[
            ("a.crt", &certificate),
            ("b.crt", &both),
            ("c.cert", &certificate),
            ("c.key", &key),
            ("README", "not PEM"),
            ("d.pem", "not PEM"),
        ]);
        let folders = [top.path().join("absent"), top.path().to_owned()];
        let found = of_host(&folders, "host:5000").unwrap().unwrap();
        assert_eq!(found.authorities.len(), 3);
        assert_eq!(found.client.unwrap().chain.len(), 1);
        for absent in ["host", "host:5001", "", "..", ".", "a/../host:5000"] {
            assert!(of_host(&folders, absent).unwrap().is_none(), "{absent}");
        }
    }

    #[test]
    fn only_the_first_folder_of_a_host_counts() {
        let (certificate, _) = pair();
        let (first, second) = (place(&[]), place(&[("a.crt", &certificate)]));
        let folders = [first.path().to_owned(), second.path().to_owned()];
        assert!(of_host(&folders, "host:5000").unwrap().unwrap().authorities.is_empty());
    }

    #[test]
    fn files_that_are_wrong_are_named() {
        let (certificate, key) = pair();
        let broken = certificate.replace("BEGIN CERT", "BEGIN CERT ");
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (files, words) in [
            (&[("x.crt", "text")][..], &["x.crt", "no certificate"][..]),
            (&[("x.crt", "")], &["x.crt", "no certificate"]),
            (&[("x.crt", &key)], &["x.crt", "no certificate"]),
            (&[("x.crt", &broken)], &["x.crt"]),
            (&[("x.crt", garbage)], &["x.crt", "can't be used"]),
            (&[("x.cert", &certificate)], &["x.cert", "x.key", "*.crt"]),
            (&[("x.key", &key)], &["x.key", "x.cert"]),
            (&[("x.cert", "text"), ("x.key", &key)], &["x.cert", "no certificate"]),
            (&[("x.cert", &certificate), ("x.key", "text")], &["x.key", "no private key"]),
        ] {
            let top = place(files);
            let error = of_host(&[top.path().to_owned()], "host:5000").unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{word}: {error}");
            }
        }
    }
}
