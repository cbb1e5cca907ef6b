//! The shim alone, for this crate's tests; the product re-executes itself.

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    engine::shim_main(&args);
}
