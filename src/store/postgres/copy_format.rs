//! The binary format of `COPY`: a header, and rows as numbers of columns with the length and the
//! bytes of each value, all in network byte order. See "Binary Format" at `COPY` in the manual of
//! PostgreSQL.

use super::columns::EPOCH_MICROS;
use crate::store::error::StoreError;
use crate::store::tables::{Column, Kind, Row, Table, Value};

/// Signature, flags and length of an extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Length of a value that is null.
const NULL: i32 = -1;

/// Number of columns that ends the rows.
const END: i16 = -1;

/// Identifier of the type `text`, of the elements of an array.
const TEXT_OID: i32 = 25;

/// Earliest time that PostgreSQL can represent, and the end of all times, in microseconds since its
/// epoch. Beyond them are `-infinity` and `infinity`.
const TIMES: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// Reads rows from chunks of bytes, of any size.
pub(super) struct Reader {
    table: &'static str,
    columns: &'static [Column],
    /// Bytes that are not yet a whole row.
    rest: Vec<u8>,
    has_header: bool,
    has_ended: bool,
}

impl Reader {
    pub(super) fn new(table: &Table) -> Self {
        let (table, columns) = (table.name, table.columns);
        Self { table, columns, rest: Vec::new(), has_header: false, has_ended: false }
    }

    /// Returns the rows that a chunk completes.
    pub(super) fn rows(&mut self, chunk: &[u8]) -> Vec<Result<Row, StoreError>> {
        self.rest.extend_from_slice(chunk);
        let rest = std::mem::take(&mut self.rest);
        let mut bytes = rest.as_slice();
        let mut rows = Vec::new();
        if !self.has_header && bytes.len() >= HEADER.len() {
            bytes = &bytes[HEADER.len()..];
            self.has_header = true;
        }
        while self.has_header && !self.has_ended {
            let mut row = bytes;
            match self.read_row(&mut row) {
                Some(result) => rows.extend(result.transpose()),
                None => break,
            }
            bytes = row;
        }
        self.rest = bytes.to_vec();
        rows
    }

    /// Reads a row; `None` if its end is missing.
    fn read_row(&mut self, bytes: &mut &[u8]) -> Option<Result<Option<Row>, StoreError>> {
        if i16::from_be_bytes(take(bytes)?) < 0 {
            self.has_ended = true;
            return Some(Ok(None));
        }
        let mut row = Row::with_capacity(self.columns.len());
        let mut failure = None;
        for column in self.columns {
            let value = match usize::try_from(i32::from_be_bytes(take(bytes)?)) {
                Err(_) => Some(Value::Null),
                Ok(length) => {
                    let (value, rest) = bytes.split_at_checked(length)?;
                    *bytes = rest;
                    decode(value, column.kind)
                }
            };
            match value {
                Some(value) => row.push(value),
                None => failure = failure.or(Some(column.name)),
            }
        }
        let inconsistent =
            |name| StoreError::inconsistent(self.table, name, "it is not of the expected type");
        Some(failure.map_or(Ok(Some(row)), |name| Err(inconsistent(name))))
    }
}

/// Writes rows as bytes.
pub(super) struct Writer {
    table: &'static str,
    columns: &'static [Column],
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(table: &Table) -> Self {
        Self { table: table.name, columns: table.columns, bytes: HEADER.to_vec() }
    }

    /// Adds a row.
    pub(super) fn add(&mut self, row: &Row) -> Result<(), StoreError> {
        let count = i16::try_from(self.columns.len()).unwrap_or(i16::MAX);
        self.bytes.extend(count.to_be_bytes());
        for (column, value) in self.columns.iter().zip(row) {
            if *value == Value::Null {
                self.bytes.extend(NULL.to_be_bytes());
                continue;
            }
            let Some(value) = encode(value, column.kind) else {
                let error = "it is not of the expected type";
                return Err(StoreError::inconsistent(self.table, column.name, error));
            };
            self.bytes.extend(length(value.len()));
            self.bytes.extend(value);
        }
        Ok(())
    }

    /// Returns the number of bytes so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the bytes so far.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Returns the last bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend(END.to_be_bytes());
        self.bytes
    }
}

/// Takes bytes from the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// Decodes a value. [`Kind::Names`] is selected as text.
fn decode(bytes: &[u8], kind: Kind) -> Option<Value> {
    Some(match kind {
        Kind::Uuid | Kind::Bytes => Value::Bytes(bytes.to_vec()),
        Kind::Text | Kind::Names => Value::Text(String::from_utf8(bytes.to_vec()).ok()?),
        Kind::Time => {
            let micros = i64::from_be_bytes(bytes.try_into().ok()?);
            Value::Integer(micros.saturating_add(EPOCH_MICROS))
        }
        Kind::Int => Value::Integer(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        Kind::BigInt => Value::Integer(i64::from_be_bytes(bytes.try_into().ok()?)),
    })
}

/// Encodes a value that is not null; `None` if the column cannot hold it.
fn encode(value: &Value, kind: Kind) -> Option<Vec<u8>> {
    Some(match (value, kind) {
        (Value::Bytes(bytes), Kind::Uuid | Kind::Bytes) => bytes.clone(),
        (Value::Text(text), Kind::Text) => text.clone().into_bytes(),
        (Value::Text(text), Kind::Names) => encode_names(text),
        (&Value::Integer(micros), Kind::Time) => encode_time(micros).to_be_bytes().to_vec(),
        (&Value::Integer(number), Kind::Int) => i32::try_from(number).ok()?.to_be_bytes().to_vec(),
        (Value::Integer(number), Kind::BigInt) => number.to_be_bytes().to_vec(),
        _ => return None,
    })
}

/// Returns a time in microseconds since the epoch of PostgreSQL.
fn encode_time(micros: i64) -> i64 {
    match micros.saturating_sub(EPOCH_MICROS) {
        early if early < TIMES.start => i64::MIN,
        late if late >= TIMES.end || micros == i64::MAX => i64::MAX,
        time => time,
    }
}

/// Encodes an array of texts: its number of dimensions, a flag for nulls, the type, length and lower
/// bound of the dimension, and the elements. An empty one has no dimension.
fn encode_names(text: &str) -> Vec<u8> {
    let names: Vec<_> = text.split(' ').filter(|name| !name.is_empty()).collect();
    let dimensions = i32::from(!names.is_empty());
    let mut bytes = [dimensions, 0, TEXT_OID].map(i32::to_be_bytes).concat();
    if !names.is_empty() {
        bytes.extend(length(names.len()));
        bytes.extend(1_i32.to_be_bytes());
    }
    for name in names {
        bytes.extend(length(name.len()));
        bytes.extend(name.as_bytes());
    }
    bytes
}

/// Returns the bytes of a length. PostgreSQL has no value of more than a gigabyte.
fn length(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tables::TABLES;

    fn roles() -> &'static Table {
        TABLES.iter().find(|table| table.name == "roles").unwrap()
    }

    fn encoded(rows: &[Row]) -> Vec<u8> {
        let mut writer = Writer::new(roles());
        for row in rows {
            writer.add(row).unwrap();
        }
        writer.finish()
    }

    #[test]
    fn chunks_of_any_size_make_the_same_rows() {
        let text = |text: &str| Value::Text(text.to_owned());
        // The names of a row that is read are text.
        let rows = [
            vec![text("clerk"), Value::Null, Value::Bytes(vec![7; 16])],
            vec![text(""), Value::Null, Value::Null],
        ];
        let bytes = encoded(&rows);
        for size in [1, 2, 7, bytes.len()] {
            let mut reader = Reader::new(roles());
            let read: Vec<_> = bytes.chunks(size).flat_map(|chunk| reader.rows(chunk)).collect();
            let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
            assert_eq!(read, rows, "chunks of {size}");
        }
    }

    #[test]
    fn times_beyond_the_calendar_are_infinite() {
        for (micros, expected) in [
            (i64::MAX, i64::MAX),
            (i64::MIN, i64::MIN),
            (EPOCH_MICROS, 0),
            (EPOCH_MICROS - 1, -1),
            (TIMES.end.saturating_add(EPOCH_MICROS), i64::MAX),
        ] {
            assert_eq!(encode_time(micros), expected, "{micros}");
        }
    }

    #[test]
    fn names_become_an_array() {
        assert_eq!(encode_names(""), [[0; 4], [0; 4], [0, 0, 0, 25]].concat());
        let two = encode_names("a  bc");
        assert_eq!(two[12..], *b"\0\0\0\x02\0\0\0\x01\0\0\0\x01a\0\0\0\x02bc");
    }

    #[test]
    fn value_of_another_type_is_refused() {
        let mut writer = Writer::new(roles());
        let row = vec![Value::Integer(1), Value::Null, Value::Null];
        let error = writer.add(&row).unwrap_err();
        assert_eq!(error.inconsistent_column().as_deref(), Some("roles.name"));
    }
}
