//! `ocifs export`: the merged tree as one tar on stdout.
//!
//! Written with PAX headers, so that every name, time and extended attribute survives; a file with
//! several names is written once and linked afterwards, and of a sparse file what is stored of it ([`sparse`]). Entries come in inode order within a
//! directory, which is the order of the layers, so that the image is read from front to back.

mod records;
mod sparse;

use std::collections::HashMap;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::ops::Range;
use std::process::ExitCode;

use ocifs::fs::{File, Filesystem};
use ocifs::tree::{FileKind, Ino, Order};
use tar::{Builder, EntryType, Header};

use crate::args::{self, RequiredProof};
use crate::commands::cat::CHUNK_BYTES;
use crate::commands::open::{Wanted, open_image};
use crate::render::errors::AnyError;
use crate::render::output;
use records::Records;
use sparse::Sparse;

pub(crate) fn run(args: &args::Export) -> Result<ExitCode, AnyError> {
    if io::stdout().is_terminal() {
        return Err("a tar archive is not for a terminal: redirect it to a file or a pipe".into());
    }
    let wanted = Wanted { proof: RequiredProof::Full, provenance: false };
    let image = open_image(&args.image, &args.image_args, wanted)?;
    let out = BufWriter::with_capacity(CHUNK_BYTES, output::stdout());
    let mut export = Export {
        filesystem: image.filesystem(),
        builder: Builder::new(out),
        first_names: HashMap::new(),
    };
    if let Err(e) = export.all() {
        // Dropping the builder would write an end marker behind half an archive, and a reader
        // would take it for whole. What is buffered is lost with it, as it should be.
        std::mem::forget(export);
        return Err(e.into());
    }
    export.builder.into_inner()?.flush()?;
    Ok(ExitCode::SUCCESS)
}

struct Export<'a, W: Write> {
    filesystem: &'a Filesystem,
    builder: Builder<W>,
    /// The path under which a file with several names was written.
    first_names: HashMap<Ino, Vec<u8>>,
}

impl<W: Write> Export<'_, W> {
    fn all(&mut self) -> io::Result<()> {
        self.entry(b".", Ino::ROOT)?;
        let mut walk = self.filesystem.tree().walk(Ino::ROOT, Order::Data);
        while let Some((path, ino)) = walk.next() {
            self.entry(path, ino)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], ino: Ino) -> io::Result<()> {
        let tree = self.filesystem.tree();
        let a = tree.attributes(ino);
        let mut header = Header::new_ustar();
        header.set_mode(a.mode.into());
        let mut records = Records::default();
        let mut name = path.to_vec();
        if a.kind == FileKind::Directory {
            name.push(b'/');
        }
        let first_name = self.first_names.get(&ino);
        let sparse = if first_name.is_none() { Sparse::of(tree, ino) } else { None };
        match &sparse {
            Some(sparse) => sparse.name(&mut header, &mut records, &name),
            None => records.name(&mut header, "path", &name),
        }
        records.owner(&mut header, &a);
        records.time(&mut header, &a);
        if let Some(first) = first_name {
            header.set_entry_type(EntryType::Link);
            records.name(&mut header, "linkpath", first);
            return self.append(header, &records, &mut io::empty());
        }
        if a.kind != FileKind::Directory && a.nlink > 1 {
            self.first_names.insert(ino, path.to_vec());
        }
        header.set_entry_type(match a.kind {
            FileKind::Regular => EntryType::Regular,
            FileKind::Directory => EntryType::Directory,
            FileKind::Symlink => EntryType::Symlink,
            FileKind::CharDevice => EntryType::Char,
            FileKind::BlockDevice => EntryType::Block,
            FileKind::Fifo => EntryType::Fifo,
        });
        if let Some(target) = tree.symlink(ino) {
            records.name(&mut header, "linkpath", target);
        }
        if matches!(a.kind, FileKind::CharDevice | FileKind::BlockDevice) {
            header.set_device_major(a.device.0)?;
            header.set_device_minor(a.device.1)?;
        }
        for (name, value) in tree.xattrs(ino) {
            let key = [b"SCHILY.xattr.", name].concat();
            records.add(&key, value);
        }
        if a.kind != FileKind::Regular {
            return self.append(header, &records, &mut io::empty());
        }
        let file = self.filesystem.file(ino).map_err(io::Error::other)?;
        let mut file = Content { filesystem: self.filesystem, file, offset: 0, end: a.size };
        if let Some(sparse) = sparse {
            let map = sparse.map();
            records.size(&mut header, map.len() as u64 + sparse.stored_bytes());
            // None of it yet.
            file.end = 0;
            let stored = Stored { part: file, rest: sparse.parts.into_iter() };
            return self.append(header, &records, &mut (&map[..]).chain(stored));
        }
        records.size(&mut header, a.size);
        self.append(header, &records, &mut file)
    }

    fn append(
        &mut self,
        header: Header,
        records: &Records,
        content: &mut impl Read,
    ) -> io::Result<()> {
        if !records.0.is_empty() {
            let mut extended = Header::new_ustar();
            extended.set_entry_type(EntryType::XHeader);
            extended.set_size(records.0.len() as u64);
            extended.set_mode(0o644);
            extended.as_mut_bytes()[..11].copy_from_slice(b"@PaxHeaders");
            extended.set_cksum();
            self.builder.append(&extended, &records.0[..])?;
        }
        let mut header = header;
        header.set_cksum();
        self.builder.append(&header, content)
    }
}

/// Reads a part of a file of the image.
#[derive(Clone, Copy)]
struct Content<'a> {
    filesystem: &'a Filesystem,
    file: File<'a>,
    offset: u64,
    end: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX).min(buf.len());
        let n = self.file.readable(self.offset, left);
        let give_up = self.filesystem.deadline();
        self.file.read(self.offset, &mut buf[..n], give_up).map_err(io::Error::other)?;
        self.offset += n as u64;
        Ok(n)
    }
}

/// Reads parts of a file of the image, one behind the other.
struct Stored<'a> {
    /// The part that is being read ...
    part: Content<'a>,
    /// ... and those behind it.
    rest: std::vec::IntoIter<Range<u64>>,
}

impl Read for Stored<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.part.offset == self.part.end {
            let Some(next) = self.rest.next() else { return Ok(0) };
            (self.part.offset, self.part.end) = (next.start, next.end);
        }
        self.part.read(buf)
    }
}
