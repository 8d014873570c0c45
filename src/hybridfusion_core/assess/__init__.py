"""Whether fusing was right for a stack: measured on the stack itself, said in sentences, written as a certificate."""
