/** The pages of checkpoints and external models: what deletes asks first. */
import { confirmForms } from "./confirm.js";

confirmForms(document);
