//! The image of a tree: a place for everything, then everything in its place.

use std::io::Write;

use super::chunks::{self, Chunks};
use super::devices::Devices;
use super::directory::{self, Blocks};
use super::format::{
    BLOCK_BITS, BLOCK_BYTES, CHUNK_BASED, CHUNK_INDEX_BYTES, CHUNK_INDEXES, CHUNKED_FILE,
    COMPATIBLE, DEVICE_TABLE, EXTENDED, Error, FLAT_INLINE, FLAT_PLAIN, HOLE, INODE_BYTES, MAGIC,
    MAX_DEVICES, SLOT, SLOT_BYTES, SUPER_BYTES, SUPER_OFFSET, Uuid, crc32c, fits, type_bits,
};
use super::xattrs::{Body, Shared};
use crate::tree::{Attributes, FileKind, Ino, Tree};

/// The image of a tree: where everything is in it.
#[derive(Debug)]
pub struct Image<'a> {
    tree: &'a Tree,
    shared: Shared<'a>,
    devices: Devices,
    chunks: Chunks,
    /// Places of the inodes in units of [`SLOT`].
    nids: Vec<u32>,
    /// The first block behind the inodes, behind the shared attributes, and behind everything.
    shared_block: u32,
    first_block: u32,
    end_block: u32,
}

/// What follows an inode and its extended attributes, and what lies elsewhere.
struct Data {
    layout: u16,
    /// Bytes behind the inode.
    inline: u64,
    /// Blocks elsewhere.
    blocks: u64,
    /// Size of the file.
    size: u64,
    /// Size of its chunks, as blocks to the power of 2.
    chunk_bits: u32,
}

impl<'a> Image<'a> {
    /// Finds a place for everything.
    ///
    /// # Errors
    /// What does not fit: see [`Error`].
    pub fn of(tree: &'a Tree) -> Result<Image<'a>, Error> {
        let devices = Devices::of(tree)?;
        if devices.len() > MAX_DEVICES {
            return Err(Error::TooManyLayers);
        }
        let chunks = Chunks::of(tree);
        let shared = Shared::of(tree)?;
        let header = (SUPER_OFFSET + SUPER_BYTES + devices.len() * SLOT_BYTES) as u64;
        let mut at = header.next_multiple_of(BLOCK_BYTES);
        let mut nids = Vec::with_capacity(tree.len());
        let mut blocks = 0;
        for ino in tree.inos() {
            let body = Body::of(tree, &shared, ino)?;
            let data = Data::of(tree, ino, &chunks);
            at = place(at, body.bytes(), data.inline);
            nids.push(u32::try_from(at / SLOT).map_err(|_| Error::TooLarge)?);
            let data = data.at(at + INODE_BYTES + body.bytes());
            at += INODE_BYTES + body.bytes() + data.inline;
            blocks += data.blocks;
        }
        let shared_block = at.div_ceil(BLOCK_BYTES);
        let first_block = shared_block + shared.bytes().div_ceil(BLOCK_BYTES);
        let too_large = |_| Error::TooLarge;
        let end_block = u32::try_from(first_block + blocks).map_err(too_large)?;
        let (shared_block, first_block) = (shared_block as u32, first_block as u32);
        Ok(Image { tree, shared, devices, chunks, nids, shared_block, first_block, end_block })
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        u64::from(self.end_block) * BLOCK_BYTES
    }

    /// Writes it; everything belongs to `owner` (user and group) if that is given. What is on the devices is
    /// returned.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(
        self,
        owner: Option<(u32, u32)>,
        uuid: Uuid,
        out: &mut impl Write,
    ) -> Result<Devices, Error> {
        let mut out = Counted { out, at: 0 };
        out.put(&self.header(uuid))?;
        self.write_inodes(owner, &mut out)?;
        self.write_shared(&mut out)?;
        self.write_blocks(&mut out)?;
        Ok(self.devices)
    }

    fn nid(&self, ino: Ino) -> u64 {
        u64::from(self.nids[ino.number() as usize - 1])
    }

    /// Everything before the inodes.
    fn header(&self, uuid: Uuid) -> Vec<u8> {
        let mut header = vec![0; SUPER_OFFSET];
        let mut put = |bytes: &[u8]| header.extend_from_slice(bytes);
        put(&MAGIC.to_le_bytes());
        // The checksum, below.
        put(&[0; 4]);
        put(&COMPATIBLE.to_le_bytes());
        put(&[BLOCK_BITS, 0]);
        put(&(self.nid(Ino::ROOT) as u16).to_le_bytes());
        put(&(self.tree.len() as u64).to_le_bytes());
        // Time of the image, which compact inodes would have.
        put(&[0; 12]);
        put(&self.end_block.to_le_bytes());
        // Blocks that inodes and shared extended attributes are counted from.
        put(&[0; 4]);
        put(&self.shared_block.to_le_bytes());
        put(&uuid);
        put(b"ocifs\0\0\0\0\0\0\0\0\0\0\0");
        put(&(CHUNKED_FILE | DEVICE_TABLE).to_le_bytes());
        put(&[0; 2]);
        put(&(self.devices.len() as u16).to_le_bytes());
        put(&(((SUPER_OFFSET + SUPER_BYTES) / SLOT_BYTES) as u16).to_le_bytes());
        put(&[0; SUPER_BYTES - 90]);
        for (at, device) in self.devices.iter().enumerate() {
            let mut slot = [0; SLOT_BYTES];
            let name = at.to_string();
            slot[..name.len()].copy_from_slice(name.as_bytes());
            slot[64..68].copy_from_slice(&device.blocks().to_le_bytes());
            header.extend_from_slice(&slot);
        }
        header.resize(header.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        let checksum = crc32c(&header[SUPER_OFFSET..BLOCK_BYTES as usize]);
        header[SUPER_OFFSET + 4..SUPER_OFFSET + 8].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    fn write_inodes(
        &self,
        owner: Option<(u32, u32)>,
        out: &mut Counted<impl Write>,
    ) -> Result<(), Error> {
        let mut block = self.first_block;
        let mut tail = Vec::new();
        for ino in self.tree.inos() {
            let body = Body::of(self.tree, &self.shared, ino)?;
            let at = self.nid(ino) * SLOT;
            let data = Data::of(self.tree, ino, &self.chunks).at(at + INODE_BYTES + body.bytes());
            out.fill(at)?;
            out.put(&self.inode(ino, owner, &body, &data, block))?;
            tail.clear();
            body.write(&mut tail);
            self.write_inline(ino, &data, &mut tail);
            out.put(&tail)?;
            block += data.blocks as u32;
        }
        out.fill(u64::from(self.shared_block) * BLOCK_BYTES)
    }

    fn write_shared(&self, out: &mut Counted<impl Write>) -> Result<(), Error> {
        self.shared.encoded().try_for_each(|attribute| out.put(&attribute))?;
        out.fill(u64::from(self.first_block) * BLOCK_BYTES)
    }

    /// `struct erofs_inode_extended`.
    fn inode(
        &self,
        ino: Ino,
        owner: Option<(u32, u32)>,
        body: &Body<'_>,
        data: &Data,
        block: u32,
    ) -> [u8; INODE_BYTES as usize] {
        let attributes = self.tree.attributes(ino);
        let (uid, gid) = owner.unwrap_or((attributes.uid, attributes.gid));
        let specific = match attributes.kind {
            FileKind::CharDevice | FileKind::BlockDevice => attributes.encoded_device(),
            _ if data.layout == CHUNK_BASED => CHUNK_INDEXES | data.chunk_bits,
            _ => block,
        };
        let mut inode = [0; INODE_BYTES as usize];
        let mut put = |at: usize, bytes: &[u8]| inode[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(EXTENDED | data.layout << 1).to_le_bytes());
        put(2, &body.count().to_le_bytes());
        put(4, &(type_bits(attributes.kind) | attributes.mode).to_le_bytes());
        put(8, &data.size.to_le_bytes());
        put(16, &specific.to_le_bytes());
        // What 32-bit programs see.
        put(20, &(ino.number() as u32).to_le_bytes());
        put(24, &uid.to_le_bytes());
        put(28, &gid.to_le_bytes());
        put(32, &attributes.mtime_seconds.to_le_bytes());
        put(40, &attributes.mtime_nanoseconds.to_le_bytes());
        put(44, &attributes.nlink.to_le_bytes());
        inode
    }

    /// Adds what follows the extended attributes of an inode.
    fn write_inline(&self, ino: Ino, data: &Data, out: &mut Vec<u8>) {
        match self.tree.kind(ino) {
            FileKind::Regular if data.inline > 0 => {
                // Extended attributes end at a multiple of 4, the index begins at one of 8.
                out.resize(out.len().next_multiple_of(CHUNK_INDEX_BYTES as usize), 0);
                let (device, first) = self.devices.place(ino);
                for chunk in chunks::iter(self.tree, ino, data.size, data.chunk_bits) {
                    // 0 is the image itself.
                    let (device, block) = match chunk.is_data {
                        true => (device + 1, first + chunk.block as u32),
                        false => (0, HOLE),
                    };
                    out.extend_from_slice(&[0; 2]);
                    out.extend_from_slice(&device.to_le_bytes());
                    out.extend_from_slice(&block.to_le_bytes());
                }
            }
            FileKind::Symlink if data.layout == FLAT_INLINE => {
                out.extend_from_slice(self.tree.symlink(ino).unwrap_or_default());
            }
            FileKind::Directory if data.layout == FLAT_INLINE => {
                if let Some(names) = Blocks::of(self.tree, ino).iter().last() {
                    self.write_names(&names, out);
                }
            }
            _ => {}
        }
    }

    fn write_names(&self, names: &[directory::Name<'_>], out: &mut Vec<u8>) {
        directory::encode(names, |ino| (self.nid(ino), self.tree.kind(ino)), out);
    }

    fn write_blocks(&self, out: &mut Counted<impl Write>) -> Result<(), Error> {
        let mut bytes = Vec::new();
        for ino in self.tree.inos() {
            let kind = self.tree.kind(ino);
            if !matches!(kind, FileKind::Directory | FileKind::Symlink) {
                continue;
            }
            let body = Body::of(self.tree, &self.shared, ino)?;
            let end = self.nid(ino) * SLOT + INODE_BYTES + body.bytes();
            let data = Data::of(self.tree, ino, &self.chunks).at(end);
            if kind == FileKind::Symlink && data.blocks > 0 {
                out.put(self.tree.symlink(ino).unwrap_or_default())?;
                out.fill(out.at.next_multiple_of(BLOCK_BYTES))?;
            }
            if kind == FileKind::Directory && data.blocks > 0 {
                for names in Blocks::of(self.tree, ino).iter().take(data.blocks as usize) {
                    bytes.clear();
                    self.write_names(&names, &mut bytes);
                    out.put(&bytes)?;
                    out.fill(out.at.next_multiple_of(BLOCK_BYTES))?;
                }
            }
        }
        Ok(())
    }
}

impl Data {
    /// What an inode has if everything that can be inline is.
    fn of(tree: &Tree, ino: Ino, chunks: &Chunks) -> Data {
        let Attributes { kind, size, .. } = tree.attributes(ino);
        let plain = Data { layout: FLAT_PLAIN, inline: 0, blocks: 0, size: 0, chunk_bits: 0 };
        match kind {
            FileKind::Regular if size > 0 => {
                let chunk_bits = chunks.bits(tree, ino, size);
                let inline = chunks::count(size, chunk_bits) * CHUNK_INDEX_BYTES;
                Data { layout: CHUNK_BASED, inline, size, chunk_bits, ..plain }
            }
            FileKind::Symlink => Data { layout: FLAT_INLINE, inline: size, size, ..plain },
            FileKind::Directory => {
                let blocks = Blocks::of(tree, ino);
                Data {
                    layout: FLAT_INLINE,
                    inline: blocks.last_bytes(),
                    blocks: blocks.len() as u64 - 1,
                    size: blocks.bytes(),
                    ..plain
                }
            }
            _ => plain,
        }
    }

    /// The same where the extended attributes end at `end`. What is inline may not cross the end
    /// of a block.
    fn at(self, end: u64) -> Data {
        match self.layout {
            CHUNK_BASED => {
                // The alignment of the index.
                let padding = end.next_multiple_of(CHUNK_INDEX_BYTES) - end;
                Data { inline: padding + self.inline, ..self }
            }
            FLAT_INLINE if !fits(end, self.inline) => {
                Data { layout: FLAT_PLAIN, inline: 0, blocks: self.blocks + 1, ..self }
            }
            _ => self,
        }
    }
}

/// The first place from `at` on for an inode whose header does not cross the end of a block. If there
/// is one where what is inline does not either, that one.
fn place(at: u64, xattr_bytes: u64, inline: u64) -> u64 {
    let slots = || (at.next_multiple_of(SLOT)..).step_by(SLOT as usize);
    let mut whole = slots().filter(|at| fits(*at, INODE_BYTES));
    let is_best = |at: &u64| fits(at + INODE_BYTES + xattr_bytes, inline);
    // Beyond a block everything comes again.
    let best = whole.by_ref().take(BLOCK_BYTES as usize / SLOT as usize).find(is_best);
    best.or_else(|| slots().find(|at| fits(*at, INODE_BYTES))).unwrap_or(at)
}

/// A writer that knows where it is.
struct Counted<'a, W> {
    out: &'a mut W,
    at: u64,
}

impl<W: Write> Counted<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes zeros up to a place.
    fn fill(&mut self, end: u64) -> Result<(), Error> {
        const ZEROS: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];
        while self.at < end {
            let length = ZEROS.len().min((end - self.at) as usize);
            self.put(&ZEROS[..length])?;
        }
        Ok(())
    }
}
