//! How values lie in the tables, and how SQL reckons with those it has no type for.
//!
//! Addresses, and numbers of addresses, need 128 bits. They are 16 bytes in network order, which sort as the numbers do;
//! `plus` and `minus` add and subtract them, and fail rather than wrap.

use rusqlite::functions::FunctionFlags;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row};

use crate::address::Family;
use crate::policy::{Policy, Repeat, Strategy};
use crate::resource::Extent;
use crate::span::Span;

/// An address, or a number of them.
pub(super) struct Key([u8; 16]);

pub(super) const fn key(value: u128) -> Key {
    Key(value.to_be_bytes())
}

impl Key {
    pub(super) const fn value(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl ToSql for Key {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(&self.0)))
    }
}

impl FromSql for Key {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(Self)
    }
}

/// A time, a slot or a number of an allocation: whole, and far below 2^63.
pub(super) struct Whole(pub(super) u64);

impl ToSql for Whole {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = i64::try_from(self.0).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        Ok(ToSqlOutput::from(value))
    }
}

impl FromSql for Whole {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let value = i64::column_result(value)?;
        u64::try_from(value).map(Self).map_err(|_| FromSqlError::OutOfRange(value))
    }
}

/// The host bits of an extent. An address has -1, so that extents sort as they do in Rust.
pub(super) struct HostBits(pub(super) Option<u8>);

impl ToSql for HostBits {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::from(self.0.map_or(-1, i64::from)))
    }
}

impl FromSql for HostBits {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match i64::column_result(value)? {
            -1 => Ok(Self(None)),
            bits => u8::try_from(bits).map(|bits| Self(Some(bits))).map_err(|_| FromSqlError::OutOfRange(bits)),
        }
    }
}

/// Numbers that stand for the variants of an enum.
macro_rules! numbers {
    ($($type:ident { $($number:literal => $variant:ident),+ })+) => {$(
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(match self { $(Self::$variant => $number),+ }))
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                match i64::column_result(value)? {
                    $($number => Ok(Self::$variant),)+
                    other => Err(FromSqlError::OutOfRange(other)),
                }
            }
        }
    )+};
}

numbers! {
    Family { 4_i64 => Ipv4, 6_i64 => Ipv6 }
    Strategy { 0_i64 => Lowest, 1_i64 => Next, 2_i64 => Random }
    Repeat { 0_i64 => Another, 1_i64 => Same, 2_i64 => Conflict }
}

/// A column with an address or a number of them.
pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u128> {
    row.get(column).map(Key::value)
}

/// Two neighbouring columns: the first and the last address.
pub(super) fn span(row: &Row<'_>, column: usize) -> rusqlite::Result<Span> {
    let (first, last) = (number(row, column)?, number(row, column.saturating_add(1))?);
    Span::new(first, last).ok_or_else(out_of_range)
}

/// Two neighbouring columns: the first address and the host bits.
pub(super) fn extent(row: &Row<'_>, column: usize) -> rusqlite::Result<Extent> {
    let (first, HostBits(host_bits)) = (number(row, column)?, row.get(column.saturating_add(1))?);
    Extent::new(first, host_bits).ok_or_else(out_of_range)
}

/// Three neighbouring columns: strategy, repeat and quarantine.
pub(super) fn policy(row: &Row<'_>, column: usize) -> rusqlite::Result<Policy> {
    let Whole(quarantine_ms) = row.get(column.saturating_add(2))?;
    Ok(Policy { strategy: row.get(column)?, repeat: row.get(column.saturating_add(1))?, quarantine_ms })
}

/// A column with a time, if there is one.
pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<Whole>>(column)?.map(|Whole(ms)| ms))
}

fn out_of_range() -> rusqlite::Error {
    FromSqlError::OutOfRange(0).into()
}

/// A sum or a difference, if 128 bits hold it.
type Operation = fn(u128, u128) -> Option<u128>;

/// Gives a connection `plus` and `minus`. The tables do without, so that every SQLite can read and check a file.
pub(super) fn add_arithmetic(connection: &Connection) -> rusqlite::Result<()> {
    let functions: [(&str, Operation); 2] = [("plus", u128::checked_add), ("minus", u128::checked_sub)];
    for (name, function) in functions {
        connection.create_scalar_function(name, 2, FunctionFlags::default(), move |call| {
            let (left, right) = (call.get::<Key>(0)?.value(), call.get::<Key>(1)?.value());
            function(left, right).map(key).ok_or_else(|| rusqlite::Error::UserFunctionError("a count is wrong".into()))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_addresses_do() {
        let addresses = [0, 1, 0xff, 0x100, 1 << 64, u128::MAX - 1, u128::MAX];
        assert!(addresses.is_sorted_by_key(|address| key(*address).0));
        assert!(addresses.into_iter().all(|address| key(address).value() == address));
    }

    #[test]
    fn sums_are_exact_or_fail() {
        let connection = Connection::open_in_memory().unwrap();
        add_arithmetic(&connection).unwrap();
        let reckon = |sql: &str, left: u128, right: u128| {
            connection.query_row(sql, [key(left), key(right)], |row| number(row, 0)).ok()
        };
        for (left, right) in [(0, 0), (3, 5), (5, 3), (u128::MAX, 0), (u128::MAX, 1), (1 << 127, 1 << 127), (0, 1)] {
            assert_eq!(reckon("SELECT plus(?1, ?2)", left, right), left.checked_add(right));
            assert_eq!(reckon("SELECT minus(?1, ?2)", left, right), left.checked_sub(right));
        }
        assert!(connection.query_row("SELECT plus(1, 2)", [], |row| number(row, 0)).is_err());
    }
}
