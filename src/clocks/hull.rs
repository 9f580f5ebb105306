//! Convex hulls of points over time, and the line of a given slope that touches one.
//!
//! The hull is made with exact integers (Andrew's monotone chain, Information Processing Letters 9,
//! 1979), so that no point of it is lost to rounding.

/// A point: when, and what the offset was at most or at least then; both from an origin near them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HullPoint {
    pub x: i64,
    pub y: i64,
}

/// One side of the convex hull of points, from left to right, and the slopes between its corners.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HullSide {
    corners: Vec<HullPoint>,
    slopes: Vec<f64>,
    /// 1 for the lower side, -1 for the upper, which is the lower side of the mirrored points.
    sign: i64,
}

impl HullSide {
    /// The lower side.
    pub fn lower(points: impl Iterator<Item = HullPoint>) -> Self {
        Self::of(points.collect(), 1)
    }

    /// The upper side.
    pub fn upper(points: impl Iterator<Item = HullPoint>) -> Self {
        Self::of(points.map(|p| HullPoint { x: p.x, y: -p.y }).collect(), -1)
    }

    fn of(mut points: Vec<HullPoint>, sign: i64) -> Self {
        points.sort_unstable();
        // Of points at one instant the lowest counts.
        points.dedup_by_key(|p| p.x);
        let mut corners: Vec<HullPoint> = Vec::new();
        for point in points {
            while let [.., a, b] = corners[..]
                && !turns_left(a, b, point)
            {
                corners.pop();
            }
            corners.push(point);
        }
        let slope = |pair: &[HullPoint]| {
            (i128::from(pair[1].y) - i128::from(pair[0].y)) as f64
                / (i128::from(pair[1].x) - i128::from(pair[0].x)) as f64
        };
        let slopes = corners.windows(2).map(slope).collect();
        Self { corners, slopes, sign }
    }

    /// The slopes at which the touched corner changes.
    pub fn slopes(&self) -> impl Iterator<Item = f64> {
        self.slopes.iter().map(|slope| slope * self.sign as f64)
    }

    /// The height at the origin of the line with this slope that touches the hull from outside: for
    /// a lower side the highest line below all points, for an upper side the lowest above.
    pub fn touch(&self, slope: f64) -> f64 {
        let mirrored = slope * self.sign as f64;
        let corner = self.slopes.partition_point(|s| *s < mirrored);
        let HullPoint { x, y } = self.corners[corner];
        (y * self.sign) as f64 - slope * x as f64
    }
}

/// Whether the way from `a` by `b` to `c` turns left.
fn turns_left(a: HullPoint, b: HullPoint, c: HullPoint) -> bool {
    let from = |p: i64, q: i64| i128::from(q) - i128::from(p);
    from(a.x, b.x) * from(a.y, c.y) > from(a.y, b.y) * from(a.x, c.x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(all: &[(i64, i64)]) -> impl Iterator<Item = HullPoint> {
        all.iter().map(|(x, y)| HullPoint { x: *x, y: *y })
    }

    const SQUARE: [(i64, i64); 6] = [(0, 0), (4, 0), (4, 4), (0, 4), (2, 2), (2, 0)];

    #[test]
    fn only_corners_are_kept() {
        let lower = HullSide::lower(points(&SQUARE));
        assert_eq!(lower.corners, [HullPoint { x: 0, y: 0 }, HullPoint { x: 4, y: 0 }]);
        let upper = HullSide::upper(points(&[(0, 0), (2, 3), (4, 0)]));
        assert_eq!(upper.slopes().collect::<Vec<_>>(), [1.5, -1.5]);
    }

    #[test]
    fn the_touching_line_leaves_all_points_on_one_side() {
        for slope in [-2.0, -1.0, -0.1, 0.0, 0.3, 1.0, 5.0] {
            let heights = SQUARE.map(|(x, y)| y as f64 - slope * x as f64);
            let least = heights.iter().copied().fold(f64::INFINITY, f64::min);
            let most = heights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(HullSide::lower(points(&SQUARE)).touch(slope), least, "{slope}");
            assert_eq!(HullSide::upper(points(&SQUARE)).touch(slope), most, "{slope}");
        }
    }
}
