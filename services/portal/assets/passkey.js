// Passkeys: made, shown and signed with by the browser. The portal never has their secret.
(() => {
  const raw = text => Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0));
  const text = bytes => btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  // They belong to a name: there are none for a bare address.
  const named = !/^[\d.]+$|^\[/.test(location.hostname);
  if (!window.PublicKeyCredential || !named) return;
  document.querySelectorAll('.with-passkey').forEach(n => { n.hidden = false; });

  const put = (form, name, value) => {
    const field = form.elements[name];
    field.disabled = false;
    field.value = value;
  };
  const sign = async (challenge, allow) => {
    const allowCredentials = (allow || '').split(' ').filter(Boolean).map(id => ({ type: 'public-key', id: raw(id) }));
    return navigator.credentials.get({ publicKey: { challenge: raw(challenge), allowCredentials, userVerification: 'preferred' } });
  };
  const shown = (form, answer) => {
    put(form, 'approve_authenticator', text(answer.response.authenticatorData));
    put(form, 'approve_client', text(answer.response.clientDataJSON));
    put(form, 'approve_signature', text(answer.response.signature));
  };

  const make = async (name, known) => {
    const excludeCredentials = (known || '').split(' ').filter(Boolean).map(id => ({ type: 'public-key', id: raw(id) }));
    return navigator.credentials.create({ publicKey: {
      rp: { name: 'Runrig' }, user: { id: crypto.getRandomValues(new Uint8Array(16)), name, displayName: name },
      challenge: crypto.getRandomValues(new Uint8Array(32)), attestation: 'none', excludeCredentials,
      pubKeyCredParams: [{ type: 'public-key', alg: -7 }],
      authenticatorSelection: { residentKey: 'required', userVerification: 'preferred' },
    } });
  };
  // The point stands at the end of what browsers wrap it in.
  const pointOf = made => text(new Uint8Array(made.response.getPublicKey()).slice(-65));

  const ways = {
    async sign(form, button) {
      shown(form, await sign(button.dataset.challenge, button.dataset.allow));
      put(form, 'approve_body', button.dataset.body);
    },
    async add(form, button) {
      if (!form.elements.name.reportValidity()) return false;
      const made = await make(button.dataset.handle, button.dataset.known);
      put(form, 'passkey_id', made.id);
      put(form, 'passkey_point', pointOf(made));
    },
    async login(form, button) {
      const answer = await sign(button.dataset.challenge);
      shown(form, answer);
      put(form, 'passkey_id', answer.id);
    },
    async create(form, button) {
      const checked = ['handle', 'email'].map(name => form.elements[name]);
      if (!checked.every(field => field.reportValidity())) return false;
      const made = await make(form.elements.handle.value);
      const body = new URLSearchParams({ csrf: form.elements.csrf.value, passkey_point: pointOf(made) });
      const answer = await fetch(button.dataset.prepare, { method: 'POST', body });
      if (!answer.ok) throw new Error('The network did not answer; try again in a moment.');
      const asked = await answer.json();
      shown(form, await sign(asked.challenge, made.id));
      put(form, 'approve_body', asked.body);
      put(form, 'passkey_id', made.id);
      put(form, 'way', 'passkey');
    },
  };
  document.querySelectorAll('[data-passkey]').forEach(button => button.addEventListener('click', async () => {
    const form = button.form, said = form.querySelector('.passkey-said');
    said.textContent = '';
    button.disabled = true;
    try {
      if (await ways[button.dataset.passkey](form, button) !== false) form.submit();
    } catch (error) {
      const why = { NotAllowedError: 'It was not used, or that took too long.', InvalidStateError: 'This device has one of yours already.' }[error.name] || error.message;
      said.textContent = 'No passkey: ' + why + ' Nothing was changed.';
    }
    button.disabled = false;
  }));
})();
