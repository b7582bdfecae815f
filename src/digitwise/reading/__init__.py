"""Your own pictures: from an image file to digits. No Keras here."""
