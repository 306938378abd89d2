//! A reader of FlatBuffers: tables, vectors and strings, every offset checked.
//!
//! Format ("FlatBuffers binary format", flatbuffers.dev/internals): numbers are little-endian. A
//! buffer begins with the offset (u32) of its root table. A table begins with the distance (i32)
//! back to its vtable: `u16` sizes of the vtable and of the table, then for each field of the
//! schema the `u16` place of its value in the table, 0 or missing for the default. Strings,
//! vectors and tables stand elsewhere, at an offset (u32) from the field, and begin with their
//! number of elements (u32) if they are not tables.
//!
//! Alignment and the NUL behind a string are the business of readers that cast; neither is looked
//! at here. Buffers may share parts, which is why code that copies out of one needs a
//! `ztoc::budget`: reading itself allocates nothing.

use super::error::Error;

/// A table and its vtable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    /// Where the table begins.
    at: usize,
    /// The table's length in bytes, as the vtable has it.
    length: usize,
    /// The places of the fields.
    fields: &'a [u8],
}

impl<'a> Table<'a> {
    /// The root table of a buffer.
    pub(super) fn root(bytes: &'a [u8]) -> Result<Table<'a>, Error> {
        Table::new(bytes, follow(bytes, 0)?)
    }

    fn new(bytes: &'a [u8], at: usize) -> Result<Table<'a>, Error> {
        let wrong = |what| Error::Flatbuffer { at, what };
        let back = i64::from(i32::from_le_bytes(array(bytes, at)?));
        // Positions are at most the length of a slice, so `i64` holds them and their differences.
        let vtable = usize::try_from(at as i64 - back).map_err(|_| wrong("no vtable"))?;
        let vtable_length = usize::from(u16::from_le_bytes(array(bytes, vtable)?));
        let length = usize::from(u16::from_le_bytes(array(bytes, vtable + 2)?));
        let vtable = bytes.get(vtable..vtable + vtable_length);
        let fields = vtable.and_then(|vtable| vtable.get(4..));
        let fields = fields.ok_or_else(|| wrong("its vtable does not fit"))?;
        if length < 4 || bytes.len() - at < length {
            return Err(wrong("the table does not fit"));
        }
        Ok(Table { bytes, at, length, fields })
    }

    /// The bytes of a scalar or offset, with where they stand; `None` if the field has its default.
    fn field<const N: usize>(&self, id: usize) -> Result<Option<(usize, [u8; N])>, Error> {
        let place = self.fields.get(2 * id..2 * id + 2);
        let place = place.map_or(0, |place| usize::from(u16::from_le_bytes([place[0], place[1]])));
        if place == 0 {
            return Ok(None);
        }
        if place < 4 || place + N > self.length {
            let what = "a field lies outside its table";
            return Err(Error::Flatbuffer { at: self.at, what });
        }
        let at = self.at + place;
        Ok(Some((at, array(self.bytes, at)?)))
    }

    pub(super) fn i8(&self, id: usize, default: i8) -> Result<i8, Error> {
        Ok(self.field(id)?.map_or(default, |(_, bytes)| i8::from_le_bytes(bytes)))
    }

    pub(super) fn i32(&self, id: usize) -> Result<i32, Error> {
        Ok(self.field(id)?.map_or(0, |(_, bytes)| i32::from_le_bytes(bytes)))
    }

    pub(super) fn u32(&self, id: usize) -> Result<u32, Error> {
        Ok(self.field(id)?.map_or(0, |(_, bytes)| u32::from_le_bytes(bytes)))
    }

    pub(super) fn i64(&self, id: usize) -> Result<i64, Error> {
        Ok(self.field(id)?.map_or(0, |(_, bytes)| i64::from_le_bytes(bytes)))
    }

    /// A field that holds a size or an offset: an `i64` that must not be negative.
    pub(super) fn size(&self, id: usize, name: &'static str) -> Result<u64, Error> {
        let value = self.i64(id)?;
        u64::try_from(value).map_err(|_| Error::Range { field: name, value })
    }

    /// The table a field refers to; missing ones are an error, as no field of ours is optional.
    pub(super) fn table(&self, id: usize, name: &'static str) -> Result<Table<'a>, Error> {
        let (at, _) = self.field::<4>(id)?.ok_or(Error::Missing(name))?;
        Table::new(self.bytes, follow(self.bytes, at)?)
    }

    /// A string, which need not be UTF-8, or a vector of bytes; empty if missing.
    pub(super) fn bytes(&self, id: usize) -> Result<&'a [u8], Error> {
        match self.field::<4>(id)? {
            None => Ok(&[]),
            Some((at, _)) => elements(self.bytes, follow(self.bytes, at)?, 1),
        }
    }

    /// A vector of tables or strings; empty if missing.
    pub(super) fn vector(&self, id: usize) -> Result<Vector<'a>, Error> {
        let Some((at, _)) = self.field::<4>(id)? else {
            return Ok(Vector { bytes: self.bytes, start: 0, offsets: &[] });
        };
        let at = follow(self.bytes, at)?;
        let offsets = elements(self.bytes, at, 4)?;
        Ok(Vector { bytes: self.bytes, start: at + 4, offsets })
    }
}

/// A vector of offsets to tables or strings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vector<'a> {
    bytes: &'a [u8],
    /// Where the first offset stands.
    start: usize,
    offsets: &'a [u8],
}

impl<'a> Vector<'a> {
    pub(super) fn len(&self) -> usize {
        self.offsets.len() / 4
    }

    pub(super) fn tables(self) -> impl Iterator<Item = Result<Table<'a>, Error>> {
        self.targets().map(move |at| Table::new(self.bytes, at?))
    }

    pub(super) fn strings(self) -> impl Iterator<Item = Result<&'a [u8], Error>> {
        self.targets().map(move |at| elements(self.bytes, at?, 1))
    }

    fn targets(self) -> impl Iterator<Item = Result<usize, Error>> {
        (0..self.len()).map(move |element| follow(self.bytes, self.start + 4 * element))
    }
}

/// The elements of the vector at `at`, each of `width` bytes.
fn elements(bytes: &[u8], at: usize, width: usize) -> Result<&[u8], Error> {
    let count = u32::from_le_bytes(array(bytes, at)?) as usize;
    let length = count.checked_mul(width);
    let elements = length.and_then(|length| bytes[at + 4..].get(..length));
    elements.ok_or(Error::Flatbuffer { at, what: "a vector or string reaches past the end" })
}

/// The position that the offset at `at` leads to.
fn follow(bytes: &[u8], at: usize) -> Result<usize, Error> {
    let offset = u32::from_le_bytes(array(bytes, at)?) as usize;
    let target = at.checked_add(offset).filter(|target| *target < bytes.len());
    target.ok_or(Error::Flatbuffer { at, what: "an offset leads past the end" })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Error> {
    let array = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    array.copied().ok_or(Error::Flatbuffer { at, what: "the buffer ends too early" })
}
