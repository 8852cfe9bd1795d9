//! A measured value as it was written: 45.23 is 4523 with two digits after the point. Such numbers
//! compress far better than the bits of the float that is nearest.
//!
//! What must stay true: nothing is lost. The float that a number stands for comes back bit for
//! bit, whichever of the two forms it took.

use std::fmt;
use std::ops::Add;

use super::varint;

/// Digits after the point at most.
pub const SCALE_MAX: u8 = 14;
/// Every mantissa up to here is a float, so one division rounds correctly.
pub const MANTISSA_MAX: u64 = 1 << 53;
/// Bytes that [`Number::put`] appends at most.
pub const NUMBER_BYTES_MAX: usize = 9;

/// In place of a scale: eight bytes of a float follow.
const FLOAT_MARK: u64 = 15;
/// Characters, besides a sign, that are read without rounding: so few digits cannot overflow.
const PLAIN_CHARS_MAX: usize = 18;
/// Floats from here on have no digits after the point.
const WHOLE_FROM: f64 = (1_u64 << 52) as f64;

/// Ten to the power of each scale.
const POWERS: [f64; SCALE_MAX as usize + 1] =
    [1., 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14];
/// The same as whole numbers.
const WHOLE_POWERS: [i64; SCALE_MAX as usize + 1] = {
    let mut powers = [1; SCALE_MAX as usize + 1];
    let mut scale = 1;
    while scale < powers.len() {
        powers[scale] = powers[scale - 1] * 10;
        scale += 1;
    }
    powers
};

/// A measured value. Two are equal if they stand for the same float, bit for bit.
#[derive(Clone, Copy)]
pub struct Number(Form);

#[derive(Clone, Copy)]
enum Form {
    /// Not larger than [`MANTISSA_MAX`] and [`SCALE_MAX`].
    Decimal { mantissa: i64, scale: u8 },
    /// The bits of a float that is no such decimal.
    Float(u64),
}

impl Number {
    /// The shortest decimal that stands for a float, or the float itself. One that is not finite
    /// is kept as well.
    pub fn new(value: f64) -> Self {
        let decimal = |scale| Some((mantissa(value, scale)?, scale));
        match (0..=SCALE_MAX).find_map(decimal) {
            Some((mantissa, scale)) => Self(Form::Decimal { mantissa, scale }),
            None => Self(Form::Float(value.to_bits())),
        }
    }

    /// As [`Self::new`], and faster where the value has as many digits as the one before it.
    #[inline]
    pub fn near(value: f64, scale: u8) -> Self {
        if scale <= SCALE_MAX
            && let Some(mantissa) = mantissa(value, scale)
        {
            return Self(Form::Decimal { mantissa, scale });
        }
        Self::new(value)
    }

    /// `mantissa / 10^scale`, if both are within their bounds.
    #[inline]
    pub fn from_decimal(mantissa: i64, scale: u8) -> Option<Self> {
        let fits = mantissa.unsigned_abs() <= MANTISSA_MAX && scale <= SCALE_MAX;
        fits.then_some(Self(Form::Decimal { mantissa, scale }))
    }

    /// The float with these bits, not looked at.
    #[inline]
    pub fn from_bits(bits: u64) -> Self {
        Self(Form::Float(bits))
    }

    /// Reads decimal text, such as `-45.23` or `1e3`, to the float that Rust reads from it.
    /// Nothing if it is something else, or too large for a float.
    #[inline]
    pub fn parse(text: &[u8]) -> Option<Self> {
        plain(text).or_else(|| rounded(text))
    }

    /// The float it stands for.
    #[inline]
    pub fn get(self) -> f64 {
        match self.0 {
            Form::Decimal { mantissa, scale } => decimal(mantissa, scale),
            Form::Float(bits) => f64::from_bits(bits),
        }
    }

    /// Mantissa and scale, unless it is kept as a float.
    #[inline]
    pub fn decimal(self) -> Option<(i64, u8)> {
        match self.0 {
            Form::Decimal { mantissa, scale } => Some((mantissa, scale)),
            Form::Float(_) => None,
        }
    }

    /// Appends it: three bytes for 45.23, [`NUMBER_BYTES_MAX`] at most.
    #[inline]
    pub fn put(&self, out: &mut Vec<u8>) {
        match self.0 {
            Form::Decimal { mantissa, scale } => {
                varint::put(out, varint::fold(mantissa) << 4 | u64::from(scale));
            }
            Form::Float(bits) => {
                varint::put(out, FLOAT_MARK);
                out.extend(bits.to_le_bytes());
            }
        }
    }

    /// Takes from the front what [`Self::put`] appended; nothing if that is not there.
    #[inline]
    pub fn take(bytes: &mut &[u8]) -> Option<Self> {
        let word = varint::take(bytes)?;
        if word == FLOAT_MARK {
            let (bits, rest) = bytes.split_first_chunk()?;
            *bytes = rest;
            return Some(Self(Form::Float(u64::from_le_bytes(*bits))));
        }
        Self::from_decimal(varint::unfold(word >> 4), (word & 15) as u8)
    }
}

/// The float that a decimal within the bounds stands for. Mantissa and power are floats, so the
/// division rounds once.
#[inline]
pub(super) fn decimal(mantissa: i64, scale: u8) -> f64 {
    mantissa as f64 / POWERS[usize::from(scale)]
}

/// The decimal with more digits after the point, if its mantissa is within the bounds.
#[inline]
pub(super) fn rescale(mantissa: i64, scale: u8, to: u8) -> Option<i64> {
    let power = *WHOLE_POWERS.get(usize::from(to.checked_sub(scale)?))?;
    mantissa.checked_mul(power).filter(|mantissa| mantissa.unsigned_abs() <= MANTISSA_MAX)
}

/// The mantissa with which a decimal of this scale stands for exactly this float.
#[inline]
pub(crate) fn mantissa(value: f64, scale: u8) -> Option<i64> {
    let scaled = value * POWERS[usize::from(scale)];
    let size = scaled.abs();
    let fits = size <= MANTISSA_MAX as f64;
    let half = if size < WHOLE_FROM { 0.5_f64.copysign(scaled) } else { 0. };
    let mantissa = (scaled + half) as i64;
    let same = decimal(mantissa, scale).to_bits() == value.to_bits();
    (fits && same).then_some(mantissa)
}

/// Text without an exponent and with few digits, read without a float.
#[inline]
fn plain(text: &[u8]) -> Option<Number> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.len() > PLAIN_CHARS_MAX {
        return None;
    }
    let mut mantissa = 0;
    let mut point = None;
    for (index, byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa * 10 + i64::from(digit);
        } else if *byte == b'.' && point.is_none() {
            point = Some(index);
        } else {
            return None;
        }
    }
    let count = digits.len() - usize::from(point.is_some());
    let scale = point.map_or(0, |point| count - point);
    // A float knows a negative zero, a mantissa does not.
    if count == 0 || (negative && mantissa == 0) {
        return None;
    }
    Number::from_decimal(if negative { -mantissa } else { mantissa }, scale as u8)
}

/// Any decimal text, by way of a float.
#[cold]
fn rounded(text: &[u8]) -> Option<Number> {
    let known = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let text = str::from_utf8(text).ok().filter(|text| text.as_bytes().iter().all(known))?;
    let value: f64 = text.parse().ok()?;
    value.is_finite().then(|| Number::new(value))
}

/// Exact, unless a term or the sum is no decimal within the bounds: then as floats are added.
impl Add for Number {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let exact = || {
            let ((a, a_scale), (b, b_scale)) = (self.decimal()?, other.decimal()?);
            let scale = a_scale.max(b_scale);
            let sum = rescale(a, a_scale, scale)? + rescale(b, b_scale, scale)?;
            Self::from_decimal(sum, scale)
        };
        exact().unwrap_or_else(|| Self::new(self.get() + other.get()))
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.get().to_bits() == other.get().to_bits()
    }
}

impl Eq for Number {}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Form::Decimal { mantissa, scale } => write!(f, "{mantissa}e-{scale}"),
            Form::Float(bits) => write!(f, "{:?}", f64::from_bits(bits)),
        }
    }
}

#[cfg(test)]
mod tests;
