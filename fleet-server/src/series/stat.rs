//! Values drawn together: least, greatest, sum and count of a step of time.

/// What is known of the values of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stat {
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// All added up.
    pub sum: f64,
    /// How many.
    pub count: f64,
}

impl Stat {
    /// Of one value.
    #[inline]
    pub fn of(value: f64) -> Self {
        Self { min: value, max: value, sum: value, count: 1.0 }
    }

    /// Of the values of both.
    #[inline]
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            sum: self.sum + other.sum,
            count: self.count + other.count,
        }
    }

    /// The mean, which lies between the ends also where numbers are so large that they cannot be
    /// added up.
    pub fn mean(&self) -> f64 {
        let mean = self.sum / self.count;
        if mean.is_nan() {
            f64::midpoint(self.min, self.max)
        } else {
            mean.clamp(self.min, self.max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_lies_between_the_ends() {
        let of = |values: &[f64]| values.iter().copied().map(Stat::of).reduce(Stat::with).unwrap();
        let stat = of(&[2.0, 6.0, 1.0]);
        assert_eq!((stat.min, stat.max, stat.mean(), stat.count), (1.0, 6.0, 3.0, 3.0));
        for values in [[f64::MAX, f64::MAX, f64::MIN], [f64::MIN, f64::MAX, 0.1], [0.1; 3]] {
            let stat = of(&values);
            let mean = stat.mean();
            assert!(mean.is_finite() && stat.min <= mean && mean <= stat.max, "{values:?}: {mean}");
        }
    }
}
