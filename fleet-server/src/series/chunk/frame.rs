//! How whole numbers become small ones: in which shape, from which base, in which unit.
//!
//! Everything wraps around: whatever a frame makes of numbers, it makes the same numbers of that.

use super::bits;

/// Bits of a slope after the point.
const SLOPE_BITS: u32 = 16;

/// How numbers become residues. See the layout of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) shape: Shape,
    pub(super) base: i64,
    pub(super) unit: u64,
    /// Bits that the largest residue needs.
    pub(super) width: u32,
}

/// What of the numbers is left.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// They themselves.
    Plain,
    /// The differences from one to the next.
    Steps { first: i64 },
    /// The differences from a line.
    Line { slope: i64 },
}

impl Frame {
    /// How many residues so many numbers have.
    pub(super) fn residue_count(self, numbers: usize) -> usize {
        match self.shape {
            Shape::Steps { .. } => numbers - 1,
            Shape::Plain | Shape::Line { .. } => numbers,
        }
    }

    /// Replaces `residues` by those of the numbers.
    pub(super) fn residues(self, numbers: &[i64], residues: &mut Vec<u64>) {
        residues.clear();
        let offset = |number: i64| number.wrapping_sub(self.base) as u64;
        match self.shape {
            Shape::Plain => residues.extend(numbers.iter().map(|number| offset(*number))),
            Shape::Steps { .. } => {
                let step = |pair: &[i64]| offset(pair[1].wrapping_sub(pair[0]));
                residues.extend(numbers.windows(2).map(step));
            }
            Shape::Line { slope } => {
                let rest = |(at, number): (i64, &i64)| offset(number.wrapping_sub(rise(slope, at)));
                residues.extend((0..).zip(numbers).map(rest));
            }
        }
        if self.unit > 1 {
            for residue in residues {
                *residue /= self.unit;
            }
        }
    }

    /// Appends the numbers that have these residues.
    pub(super) fn numbers(self, residues: Vec<u64>, out: &mut Vec<i64>) {
        let Self { base, unit, .. } = self;
        let rest = |residue: u64| base.wrapping_add(residue.wrapping_mul(unit) as i64);
        let rests = residues.into_iter().map(rest);
        match self.shape {
            Shape::Plain => out.extend(rests),
            Shape::Steps { first } => {
                let mut last = first;
                out.push(last);
                out.extend(rests.map(|step| {
                    last = last.wrapping_add(step);
                    last
                }));
            }
            Shape::Line { slope } => {
                let number = |(at, rest): (i64, i64)| rest.wrapping_add(rise(slope, at));
                out.extend((0..).zip(rests).map(number));
            }
        }
    }
}

/// What there is to know about numbers before they are written.
pub(super) struct Survey<'a> {
    numbers: &'a [i64],
    unit: u64,
    plain: Frame,
    steps: Option<Frame>,
    line: Option<Frame>,
}

#[derive(Clone, Copy)]
struct Range {
    least: i64,
    most: i64,
}

impl<'a> Survey<'a> {
    /// Looks at numbers, if there are any.
    pub(super) fn of(numbers: &'a [i64]) -> Option<Self> {
        let (first, rest) = numbers.split_first()?;
        let mut plain = Range { least: *first, most: *first };
        let mut steps = Range::NONE;
        let mut before = *first;
        for number in rest {
            plain.add(*number);
            steps.add(number.wrapping_sub(before));
            before = *number;
        }
        let unit = unit(numbers, plain);
        let has_steps = !rest.is_empty();
        let is_paced = has_steps && unit == 1 && steps.is_even();
        Some(Self {
            numbers,
            unit,
            plain: plain.frame(Shape::Plain, unit),
            steps: has_steps.then(|| steps.frame(Shape::Steps { first: *first }, unit)),
            line: is_paced.then(|| line_through(numbers)),
        })
    }

    /// The frame whose residues need the fewest bits each.
    pub(super) fn narrowest(&self) -> Frame {
        let others = self.steps.into_iter().chain(self.line);
        others.fold(self.plain, |best, other| if other.width < best.width { other } else { best })
    }

    /// The frame whose residues lie closest together.
    pub(super) fn densest(&self) -> Frame {
        let mut best = (self.plain, self.spread(self.numbers.iter().copied(), self.plain));
        let mut consider = |frame, spread| {
            if spread < best.1 {
                best = (frame, spread);
            }
        };
        if let Some(steps) = self.steps {
            let rests = self.numbers.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
            consider(steps, self.spread(rests, steps));
        }
        if let Some(line @ Frame { shape: Shape::Line { slope }, .. }) = self.line {
            let rests = self.numbers.iter().enumerate();
            let rests = rests.map(|(at, number)| number.wrapping_sub(rise(slope, at as i64)));
            consider(line, self.spread(rests, line));
        }
        best.0
    }

    /// About how many bits tell all the rests of a frame from their mean.
    fn spread(&self, rests: impl ExactSizeIterator<Item = i64> + Clone, frame: Frame) -> u32 {
        let count = rests.len() as f64;
        let offset = |rest: i64| rest.wrapping_sub(frame.base) as u64;
        let sum: f64 = rests.clone().map(|rest| offset(rest) as f64).sum();
        let mean = (sum / count) as u64;
        let unit_bits = bits::width(self.unit) - 1;
        rests.map(|rest| bits::width(offset(rest).abs_diff(mean)).saturating_sub(unit_bits)).sum()
    }
}

impl Range {
    const NONE: Self = Self { least: i64::MAX, most: i64::MIN };

    fn add(&mut self, number: i64) {
        self.least = self.least.min(number);
        self.most = self.most.max(number);
    }

    /// From the least to the most.
    fn size(self) -> u64 {
        self.most.wrapping_sub(self.least) as u64
    }

    /// Whether these are steps at nearly the same pace, such as those of a clock.
    fn is_even(self) -> bool {
        self.least > 0 && (1..=self.least as u64).contains(&self.size())
    }

    fn frame(self, shape: Shape, unit: u64) -> Frame {
        let width = bits::width(self.size() / unit);
        Frame { shape, base: self.least, unit: if width > 0 { unit } else { 1 }, width }
    }
}

/// The frame of the line that is nearest to at least two numbers.
fn line_through(numbers: &[i64]) -> Frame {
    let slope = slope(numbers);
    let mut rests = Range::NONE;
    for (at, number) in (0..).zip(numbers) {
        rests.add(number.wrapping_sub(rise(slope, at)));
    }
    rests.frame(Shape::Line { slope }, 1)
}

/// How far a line has risen.
fn rise(slope: i64, at: i64) -> i64 {
    slope.wrapping_mul(at) >> SLOPE_BITS
}

/// The slope of the line that is nearest to the numbers.
fn slope(numbers: &[i64]) -> i64 {
    let middle = (numbers.len() - 1) as f64 / 2.;
    let first = numbers[0];
    let (mut product, mut square) = (0., 0.);
    for (at, number) in numbers.iter().enumerate() {
        let at = at as f64 - middle;
        product += at * number.wrapping_sub(first) as f64;
        square += at * at;
    }
    (product / square * f64::from(1 << SLOPE_BITS)).round() as i64
}

/// The largest number by whose multiples all numbers differ.
fn unit(numbers: &[i64], range: Range) -> u64 {
    let size = range.size();
    // Differences of differences must not wrap around, or they are no multiples.
    if size == 0 || size > u64::MAX / 4 {
        return 1;
    }
    let mut unit = size;
    for number in numbers {
        let offset = number.wrapping_sub(range.least) as u64;
        if !offset.is_multiple_of(unit) {
            unit = divisor(unit, offset);
            if unit == 1 {
                break;
            }
        }
    }
    unit
}

/// The greatest number that divides both.
fn divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
