/** Asks for the token of a server that wants one. */
import { html, useState } from "./third_party/htm-preact.js";
import { call, connection, locked } from "./api.js";
import { Button, Dialog, Field, fieldProps } from "./ui.js";

export function SignIn() {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    try {
      await call("POST", "/_emulator/session", { body: { token } });
      locked.set(false);
      connection.set({ ...connection.get(), epoch: connection.get().epoch + 1 });
    } catch (error) {
      setProblem(error);
    }
  };
  return html`
    <${Dialog} title="Sign in" onClose=${() => {}} actions=${html`<${Button} kind="primary" type="submit" form="sign-in">Sign in<//>`}>
      <form id="sign-in" onSubmit=${submit}>
        <${Field} id="token" label="Token" hint="The server's auth_token." error=${problem?.message}>
          <input ...${fieldProps("token", { hint: true, error: problem })} type="password" value=${token} required autocomplete="current-password" onInput=${(event) => setToken(event.target.value)} />
        <//>
      </form>
    <//>
  `;
}
