use super::*;
use crate::deal;

fn seats() -> Vec<Seat> {
    deal(2, [1; 32]).expect("dealt").1
}

#[test]
fn kept_sealed_and_erased() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("vault");
    let seats = seats();
    let dealt = seats[0].share.clone().expect("dealt");
    let mut vault = Vault::open(path.clone(), &seats[0]).expect("opens");
    futures::executor::block_on(async {
        assert_eq!(vault.get_share(Epoch::zero()).await, Some(dealt.clone()));
        vault.put_share(Epoch::new(1), dealt.clone()).await;
    });
    let secret = dealt.encode();
    for epoch in ["0", "1"] {
        let bytes = std::fs::read(path.join(epoch)).expect("there");
        assert!(!bytes.windows(secret.len()).any(|part| part == secret));
    }
    // A file that a crash left half written is no reason to stop.
    std::fs::write(path.join("1.new"), b"torn").expect("written");
    let mut again = Vault::open(path.clone(), &seats[0].spent()).expect("opens");
    assert!(!path.join("1.new").exists());
    futures::executor::block_on(async {
        assert_eq!(again.get_share(Epoch::new(1)).await, Some(dealt));
        again.prune(Epoch::new(1)).await;
        assert_eq!(again.get_share(Epoch::zero()).await, None);
    });
    assert!(!path.join("0").exists() && path.join("1").exists());

    let other = Vault::open(path.clone(), &seats[1]).err().expect("refused");
    assert!(
        other.to_string().contains("not sealed by this seat"),
        "{other}"
    );
    // Nor does the file of one epoch pass for another's.
    std::fs::rename(path.join("1"), path.join("7")).expect("renamed");
    assert!(Vault::open(path, &seats[0]).is_err());
}
