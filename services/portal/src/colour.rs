//! A colour that an organisation chose, as accents that can be read in light and in dark.
//!
//! Whatever was chosen is darkened for light pages and lightened for dark ones until text in it, and
//! text on it, have the contrast that WCAG 2.2 AA asks of small text. So no choice has to be refused.

use std::fmt;
use std::str::FromStr;

/// Of small text on its ground.
const CONTRAST_MIN: f64 = 4.5;
/// Steps from the chosen colour to black or white; few, so that a choice stays what it was.
const STEPS: u32 = 64;

const WHITE: Colour = Colour([255; 3]);
const BLACK: Colour = Colour([0; 3]);
/// `--bg`, `--surface` and `--sunken` of `portal.css`, and the grounds that pointers make.
const LIGHT: [Colour; 4] = [
    Colour([0xf6, 0xf6, 0xf3]),
    Colour([0xff, 0xff, 0xff]),
    Colour([0xf1, 0xf1, 0xed]),
    Colour([0xe9, 0xe9, 0xe3]),
];
const DARK: [Colour; 4] = [
    Colour([0x0d, 0x10, 0x11]),
    Colour([0x14, 0x18, 0x1a]),
    Colour([0x0f, 0x13, 0x14]),
    Colour([0x17, 0x1c, 0x1e]),
];

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour([u8; 3]);

/// A text that is no `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a colour is # and six digits, 0 to 9 and a to f")]
pub struct NoColour;

impl FromStr for Colour {
    type Err = NoColour;

    fn from_str(text: &str) -> Result<Self, NoColour> {
        let digits = text.strip_prefix('#').ok_or(NoColour)?;
        let mut rgb = [0; 3];
        hex::decode_to_slice(digits, &mut rgb).map_err(|_| NoColour)?;
        Ok(Self(rgb))
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", hex::encode(self.0))
    }
}

/// One theme's accent, its text and its soft ground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accent {
    pub colour: Colour,
    pub ink: Colour,
    pub soft: Colour,
}

impl Colour {
    /// The portal's own.
    pub const OURS: Self = Self([0x0c, 0x6b, 0x5c]);

    /// From this to `other`: `part` of `whole`.
    fn towards(self, other: Self, part: u32, whole: u32) -> Self {
        let mix =
            |a: u8, b: u8| ((u32::from(a) * (whole - part) + u32::from(b) * part) / whole) as u8;
        Self([0, 1, 2].map(|at| mix(self.0[at], other.0[at])))
    }

    /// As WCAG has it, 0 to 1.
    fn luminance(self) -> f64 {
        let linear = |channel: u8| match f64::from(channel) / 255.0 {
            c if c <= 0.04045 => c / 12.92,
            c => ((c + 0.055) / 1.055).powf(2.4),
        };
        let [r, g, b] = self.0.map(linear);
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn accent(self, end: Self, grounds: &[Self], ink: Self, soft_part: u32) -> Accent {
        let at = |step: u32| {
            let colour = self.towards(end, step, STEPS);
            // The first ground after the page's is that of cards.
            let soft = grounds[1].towards(colour, soft_part, 100);
            Accent { colour, ink, soft }
        };
        let reads = |accent: &Accent| {
            let grounds = grounds.iter().chain([&accent.soft, &accent.ink]);
            grounds
                .into_iter()
                .all(|ground| accent.colour.contrast(*ground) >= CONTRAST_MIN)
        };
        (0..STEPS).map(at).find(reads).unwrap_or(at(STEPS))
    }

    pub fn light(self) -> Accent {
        self.accent(BLACK, &LIGHT, WHITE, 12)
    }

    pub fn dark(self) -> Accent {
        self.accent(WHITE, &DARK, DARK[0], 18)
    }

    /// The stylesheet that makes pages wear it, after `portal.css`.
    pub fn sheet(self) -> String {
        let (light, dark) = (self.light(), self.dark());
        let token = |name: &str, of: fn(&Accent) -> Colour| {
            format!("--{name}:light-dark({},{});", of(&light), of(&dark))
        };
        format!(
            ":root{{{}{}{}}}\n",
            token("accent", |a| a.colour),
            token("accent-ink", |a| a.ink),
            token("accent-soft", |a| a.soft),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_can_be_read_in_both_themes() {
        let levels = (0..=255u8).step_by(17);
        for r in levels.clone() {
            for g in levels.clone() {
                for b in levels.clone() {
                    let chosen = Colour([r, g, b]);
                    for (accent, grounds) in [(chosen.light(), LIGHT), (chosen.dark(), DARK)] {
                        for ground in grounds.into_iter().chain([accent.soft, accent.ink]) {
                            let contrast = accent.colour.contrast(ground);
                            assert!(contrast >= CONTRAST_MIN, "{chosen}: {accent:?}: {contrast}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_reads_already_stays_as_it_was_chosen() {
        let deep: Colour = "#0c5a8c".parse().expect("a colour");
        assert_eq!(deep.light().colour, deep);
        let pale: Colour = "#9ad0ff".parse().expect("a colour");
        assert_eq!(pale.dark().colour, pale);
        assert!((WHITE.contrast(BLACK) - 21.0).abs() < 0.001);
    }

    #[test]
    fn only_six_digits_are_a_colour() {
        for wrong in [
            "",
            "#fff",
            "0c5a8c",
            "#0c5a8g",
            "#0c5a8c;}",
            "red",
            "#0c5a8c ",
        ] {
            assert_eq!(wrong.parse::<Colour>(), Err(NoColour), "{wrong}");
        }
        let sheet = "#AA00ff".parse::<Colour>().expect("a colour").sheet();
        assert!(sheet.starts_with(":root{--accent:light-dark(#"), "{sheet}");
    }
}
