//! The web pages as people meet them: Chromium on a cloud of three hosts. Runs as root; needs
//! chromium, nft and Debian's mirrors.
//!
//! With `RUNRIG_SCREENSHOTS=FOLDER` (`cargo xtask screenshots`) it takes pictures of all pages too. A
//! relative one is in `screenshots/`, which git ignores.

mod checked;
mod hostile;
mod hosts;
mod journeys;
mod keys;
mod limits;
mod login;
mod look;
mod passkey;
mod shell;
mod space;
mod watched;

use std::path::{Path, PathBuf};

use fixtures::{Browser, Cloud, free_ports};

/// What every journey has.
struct Stage {
    cloud: Cloud,
    browser: Browser,
    /// URL of the portal.
    site: String,
    /// An image, as a layout.
    image: PathBuf,
    /// Where pictures go, if they are wanted.
    pictures: Option<PathBuf>,
}

impl Stage {
    fn new(folder: &Path) -> Self {
        let cloud = Cloud::start(env!("CARGO_BIN_EXE_runrig"), folder, free_ports());
        Self {
            site: cloud.portal(),
            image: fixtures::busybox().write(&folder.join("layout")),
            pictures: std::env::var_os("RUNRIG_SCREENSHOTS").map(|named| ignored().join(named)),
            browser: Browser::start(&folder.join("browser")),
            cloud,
        }
    }
}

/// Where git looks for no pictures.
fn ignored() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../screenshots")
}

#[test]
fn people_go_through_the_pages() {
    let folder = tempfile::tempdir().expect("a folder");
    let stage = Stage::new(folder.path());
    let newcomer = journeys::from_sign_up_to_a_bill(&stage);
    shell::in_the_browser(&stage, &newcomer);
    hostile::is_shown_as_text(&stage, &newcomer);
    watched::misses_nothing(&stage, &newcomer);
    hosts::are_ruled_by_forms(&stage, &newcomer);
    hosts::a_newcomer_joins(&stage, &newcomer);
    limits::are_set_on_their_page(&stage, &newcomer);
    checked::in_the_browser(&stage);
    look::around(&stage, &newcomer);
    if let Some(pictures) = &stage.pictures {
        look::pictures(&stage, &newcomer, pictures);
    }
    journeys::out(&newcomer);
    journeys::by_keyboard_alone(&stage);
    let company = journeys::without_scripts(&stage);
    let member = journeys::in_a_company(&stage, &company);
    space::of_an_organisation(&stage, &company, &member);
    let passkey = passkey::signs_for_its_account(&stage);
    login::by_a_code(&stage, folder.path());
    login::by_a_key_of_the_portal(&stage, folder.path());
    login::with_a_passkey(&stage, folder.path(), &passkey);
    keys::of_an_account(&stage);
}
