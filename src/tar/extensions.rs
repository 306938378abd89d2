//! Extension headers waiting for their entry, and what an entry is once they are applied.

use super::entry::{Entry, FileType};
use super::error::Error;
use super::header::{self, Header};
use super::pax::{self, PaxRecords};

/// Extension headers waiting for their entry.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pax: Option<PaxRecords>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pub(super) bytes: u64,
}

impl Extensions {
    /// Takes the data of an extension header of this type.
    pub(super) fn extend(
        &mut self,
        kind: u8,
        data: &[u8],
        at: u64,
        of_names: bool,
    ) -> Result<(), Error> {
        let pax = |what| Error::Pax { at, what };
        match kind {
            b'x' => {
                let records = PaxRecords::parse(data, of_names).map_err(pax)?;
                self.pax = Some(records);
            }
            b'g' => {
                pax::check(data).map_err(pax)?;
                // It is an entry of its own: what follows is counted anew.
                *self = Extensions::default();
            }
            b'L' => self.long_name = Some(header::until_nul(data).to_vec()),
            _ => self.long_link = Some(header::until_nul(data).to_vec()),
        }
        Ok(())
    }

    /// The entry of a header with all of this applied, without size and runs, and the PAX records. Where
    /// only names matter (`of_names`), what else does not fit is nothing.
    pub(super) fn apply(
        self,
        header: &Header,
        kind: FileType,
        at: u64,
        of_names: bool,
    ) -> Result<(Entry, PaxRecords), Error> {
        let extensions = self;
        let pax = extensions.pax.unwrap_or_default();
        // An ID has 32 bits: of a longer number, or a negative one (-2 for nobody), chown(2) takes the lowest, for every
        // engine.
        let id = |value: Option<i64>, own: Result<i64, Error>| -> Result<u32, Error> {
            match value {
                Some(value) => Ok(value as u32),
                None => Ok(or_nothing(of_names, own)? as u32),
            }
        };
        let (seconds, nanoseconds) = match pax.mtime {
            Some(time) => time,
            None => (or_nothing(of_names, header.mtime(at))?, 0),
        };
        let device = match kind {
            FileType::CharDevice | FileType::BlockDevice => {
                or_nothing(of_names, header.device(at))?
            }
            _ => (0, 0),
        };
        let mut entry = Entry {
            path: pax.path.clone().unwrap_or_else(|| header.path.clone()),
            kind,
            mode: or_nothing(of_names, header.mode(at))? & 0o7777,
            uid: id(pax.uid, header.uid(at))?,
            gid: id(pax.gid, header.gid(at))?,
            mtime_seconds: seconds,
            mtime_nanoseconds: nanoseconds,
            size: 0,
            link_target: pax.link_path.clone().unwrap_or_else(|| header.link_name.clone()),
            device,
            xattrs: pax.xattrs.clone(),
            runs: Vec::new(),
            sparse: false,
        };
        // The order in which Go applies them: a GNU long name wins over a PAX path.
        if let Some(name) = extensions.long_name.filter(|name| !name.is_empty()) {
            entry.path = name;
        }
        if let Some(link) = extensions.long_link.filter(|link| !link.is_empty()) {
            entry.link_target = link;
        }
        // "A legacy archive uses a trailing slash for directories" (V7 had no type for them).
        if header.typeflag == 0 && entry.path.ends_with(b"/") {
            entry.kind = FileType::Directory;
        }
        Ok((entry, pax))
    }
}

/// A field that does not matter where only names do.
fn or_nothing<T: Default>(of_names: bool, field: Result<T, Error>) -> Result<T, Error> {
    if of_names { Ok(field.unwrap_or_default()) } else { field }
}
